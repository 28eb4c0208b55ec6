-- As finish_clean.sql, for jobs that were parked meanwhile, and those whose cancel request came too late: it is cleared.
UPDATE jobrt_job SET
    state = 4, lease = -lease, started_at = min(coalesce(outcome.value, started_at, :now), :now), finished_at = :now,
    cancel_reason = NULL, attempt = attempt + (state <> 3)
FROM json_each(:starts) AS outcome
WHERE jobrt_job.id = CAST(outcome.key AS INTEGER) AND jobrt_job.lease = :lease;
