-- Of many jobs, those that have a checkpoint or progress. Few have.
SELECT json_group_array(job_id) FROM jobrt_detail
WHERE job_id IN (SELECT value FROM json_each(?)) AND (saved IS NOT NULL OR progress IS NOT NULL);
