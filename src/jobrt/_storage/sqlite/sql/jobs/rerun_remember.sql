-- A clean attempt is told from the job's row, which is about to be used again: from now on it needs a record.
INSERT OR IGNORE INTO jobrt_attempt (job_id, lease, number, "end", started_at, finished_at, worker)
SELECT id, -lease, attempt, 'finished', started_at, finished_at, worker FROM jobrt_job
WHERE id IN (SELECT value FROM json_each(?)) AND state = 4 AND lease < 0;
