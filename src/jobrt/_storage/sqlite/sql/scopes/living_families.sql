-- Of some jobs, those with living children.
SELECT json_group_array(id) FROM jobrt_job WHERE id IN (SELECT value FROM json_each(:ids)) AND extra & 16
    AND EXISTS (SELECT 1 FROM jobrt_member WHERE job_id = jobrt_job.id AND alive = 1);
