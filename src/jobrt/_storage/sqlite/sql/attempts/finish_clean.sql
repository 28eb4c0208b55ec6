-- Clean outcomes of a whole batch, {"id": lease, ...}, by primary key and lease only. The lease is negated, so that a
-- repeated outcome is recognized as already written. A cancel request that came too late is cleared. Only the job's
-- row is written.
UPDATE jobrt_job SET state = 4, lease = -lease, finished_at = :now, cancel_reason = NULL
FROM json_each(:refs) AS outcome
WHERE jobrt_job.id = CAST(outcome.key AS INTEGER) AND jobrt_job.lease = outcome.value;
