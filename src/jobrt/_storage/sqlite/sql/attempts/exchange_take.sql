-- By primary key: the write lock has been held since the jobs were found, so they are still waiting. A number of
-- attempts that is the largest integer stays as it is.
UPDATE jobrt_job SET
    state = 3, lease = :lease, worker = :worker, started_at = :started_at, attempt = CAST(attempt + 1 AS INTEGER)
WHERE id IN (SELECT value FROM json_each(:ids));
