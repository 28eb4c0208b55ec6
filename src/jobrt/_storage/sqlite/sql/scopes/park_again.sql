-- Jobs that a worker has parked, and claimed without knowing it.
UPDATE jobrt_job SET state = :available, attempt = max(attempt, 1) - 1, started_at = ifnull(started_at, :now)
WHERE id IN (SELECT value FROM json_each(:ids)) AND EXISTS (
    SELECT 1 FROM jobrt_waiting AS w WHERE w.job_id = jobrt_job.id AND w.worker = :worker
)
RETURNING id;
