-- A job that waits for no other job becomes due, unless an operator has set its due time meanwhile.
UPDATE jobrt_job SET schedule_at = :now
WHERE id IN (SELECT value FROM json_each(:jobs)) AND state < 3 AND schedule_at = :far
    AND NOT EXISTS (SELECT 1 FROM jobrt_dependency WHERE job_id = jobrt_job.id)
RETURNING queue;
