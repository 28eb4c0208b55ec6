-- Of jobs that have just ended, those with living children.
SELECT json_group_array(json_array(id, state)) FROM jobrt_job
WHERE id IN (SELECT value FROM json_each(:ids)) AND extra & 16 AND state BETWEEN 4 AND 6
    AND EXISTS (SELECT 1 FROM jobrt_member WHERE job_id = jobrt_job.id AND alive = 1);
