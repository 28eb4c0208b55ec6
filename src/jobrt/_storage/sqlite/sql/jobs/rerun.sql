-- CAST: a sum beyond the largest integer is a REAL, which the column refuses.
UPDATE jobrt_job SET
    state = 1, lease = NULL, schedule_at = :now, finished_at = NULL, cancel_reason = NULL, extra = (extra | 1) & ~160,
    max_attempts = CASE WHEN attempt >= max_attempts THEN CAST(attempt + 1 AS INTEGER) ELSE max_attempts END
WHERE id IN (SELECT value FROM json_each(:ids))
RETURNING queue;
