-- Clean outcomes of the jobs of one claim, {"id": start or null, ...}, by primary key and lease only. The jobs of a claim
-- share the lease; a pair in each value would be slower. The lease is negated, so that a
-- repeated outcome is recognized as already written. A cancel request that came too late is cleared. Only the job's
-- row is written.
UPDATE jobrt_job SET
    state = 4, lease = -lease, started_at = min(coalesce(outcome.value, started_at, :now), :now), finished_at = :now,
    cancel_reason = NULL, attempt = attempt + (state <> 3)
FROM json_each(:starts) AS outcome
WHERE jobrt_job.id = CAST(outcome.key AS INTEGER) AND jobrt_job.lease = :lease;
