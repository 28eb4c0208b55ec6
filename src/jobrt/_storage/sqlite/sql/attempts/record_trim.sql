-- The newest hundred are kept, so that a job that snoozes forever does not grow forever.
DELETE FROM jobrt_attempt WHERE job_id = :id AND lease <= (
    SELECT lease FROM jobrt_attempt WHERE job_id = :id ORDER BY lease DESC LIMIT 1 OFFSET 100
);
