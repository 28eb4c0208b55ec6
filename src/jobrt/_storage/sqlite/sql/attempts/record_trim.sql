-- The newest hundred stay: a job that snoozes for ever does not grow for ever.
DELETE FROM jobrt_attempt WHERE job_id = :id AND lease <= (
    SELECT lease FROM jobrt_attempt WHERE job_id = :id ORDER BY lease DESC LIMIT 1 OFFSET 100
);
