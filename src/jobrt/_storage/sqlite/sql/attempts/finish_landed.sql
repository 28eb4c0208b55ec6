-- Of some attempts ({"id": lease, ...}), the jobs whose outcome is already written: the lease is negated, or, if the
-- job has been claimed again since, there is a record of that end.
SELECT json_group_array(jobrt_job.id) FROM json_each(:refs) AS outcome
JOIN jobrt_job ON jobrt_job.id = CAST(outcome.key AS INTEGER)
WHERE jobrt_job.lease = -outcome.value OR EXISTS (
    SELECT 1 FROM jobrt_attempt
    WHERE job_id = jobrt_job.id AND jobrt_attempt.lease = outcome.value AND "end" = :end
);
