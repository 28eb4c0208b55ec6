-- By primary key: the write lock has been held since the jobs were found, so they are still waiting.
UPDATE jobrt_job SET state = 3, lease = :lease, worker = :worker, started_at = :started_at, attempt = attempt + 1
WHERE id IN (SELECT value FROM json_each(:ids));
