-- Clean outcomes of the jobs of one claim, {"id": start or null, ...}, by primary key and lease only. The jobs of a claim
-- share the lease; a pair in each value would be slower. The lease is negated, so that a repeated outcome is recognized
-- as already written. Only the job's row is written. As it changes no column that the trigger of members watches, that
-- costs nothing here. Few jobs remain for finish_clean_rest.sql.
UPDATE jobrt_job SET
    state = 4, lease = -lease, started_at = min(coalesce(outcome.value, started_at, :now), :now), finished_at = :now
FROM json_each(:starts) AS outcome
WHERE jobrt_job.id = CAST(outcome.key AS INTEGER) AND jobrt_job.lease = :lease
    AND state = 3 AND cancel_reason IS NULL;
