-- Of these claimed jobs, those that their worker has parked: they stay its own, because it has their coroutines.
UPDATE jobrt_job SET state = :available, attempt = max(attempt, 1) - 1, started_at = ifnull(started_at, :now)
WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 3 AND EXISTS (
    SELECT 1 FROM jobrt_waiting AS w WHERE w.job_id = jobrt_job.id AND w.worker = jobrt_job.worker
)
RETURNING id, queue;
