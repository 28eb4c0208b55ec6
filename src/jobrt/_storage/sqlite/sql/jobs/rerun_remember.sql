-- The job's row holds the values of its clean last attempt. The next attempt overwrites them, so they get a record.
-- A damaged row has no times or worker.
INSERT OR IGNORE INTO jobrt_attempt (job_id, lease, number, "end", started_at, finished_at, worker)
SELECT id, CAST(-lease AS INTEGER), attempt, 'finished', coalesce(started_at, finished_at, created_at),
    coalesce(finished_at, started_at, created_at), ifnull(worker, '') FROM jobrt_job
WHERE id IN (SELECT value FROM json_each(?)) AND state = 4 AND lease < 0;
