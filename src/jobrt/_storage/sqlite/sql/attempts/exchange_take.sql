-- By primary key: the write lock is held since the jobs were looked up, so they are still waiting.
UPDATE jobrt_job SET state = 3, lease = :lease, worker = :worker, started_at = :now, attempt = attempt + 1
WHERE id IN (SELECT value FROM json_each(:ids));
