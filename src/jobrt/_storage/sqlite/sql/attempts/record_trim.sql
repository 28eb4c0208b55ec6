-- Of each of these jobs the newest hundred are kept, so that a job that snoozes forever does not grow forever.
DELETE FROM jobrt_attempt WHERE rowid IN (
    SELECT attempt.rowid FROM json_each(:ids) AS ended CROSS JOIN jobrt_attempt AS attempt
    WHERE attempt.job_id = ended.value AND attempt.lease <= (
        SELECT lease FROM jobrt_attempt WHERE job_id = ended.value ORDER BY lease DESC LIMIT 1 OFFSET 100
    )
);
