-- Closing jobs that were to run again take another state when their children are over.
UPDATE jobrt_waiting SET name = :state
WHERE job_id IN (SELECT value FROM json_each(:ids)) AND kind = 'close' AND name = '2'
    AND (SELECT state FROM jobrt_job WHERE id = job_id) = 8;
