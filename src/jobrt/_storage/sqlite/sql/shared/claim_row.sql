-- A job for a claim, as an array. Nearly all jobs have only the first eight values: building and parsing the others too
-- would double the cost. JSON has no infinity, so an infinite timeout becomes a finite one of 30 billion years.
CASE WHEN extra = 0 AND timeout IS NULL AND started_at IS NULL AND version IS NULL
    AND context IS NULL AND tags = '[]' AND metadata = '{}' AND length(CAST(args AS BLOB)) <= 8192
THEN json_array(id, name, priority, attempt, max_attempts, created_at, schedule_at, args)
ELSE json_array(
    id, name, priority, attempt, max_attempts, created_at, schedule_at, {small_texts},
    max(min(timeout, 1e18), -1e18), extra, started_at, version
) END
