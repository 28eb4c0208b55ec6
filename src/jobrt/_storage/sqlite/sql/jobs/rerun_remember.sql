-- The job's row holds the values of its clean last attempt. The next attempt overwrites them, so they get a record.
INSERT OR IGNORE INTO jobrt_attempt (job_id, lease, number, "end", started_at, finished_at, worker)
SELECT id, -lease, attempt, 'finished', started_at, finished_at, worker FROM jobrt_job
WHERE id IN (SELECT value FROM json_each(?)) AND state = 4 AND lease < 0;
