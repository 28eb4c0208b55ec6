-- The common end, for a whole batch: {"id": lease, ...}. By primary key and lease only. The lease is negated so
-- that telling the same end again is seen to have landed. A wish to cancel that came too late is
-- forgotten. Nothing but the job's row is written.
UPDATE jobrt_job SET state = 4, lease = -lease, finished_at = :now, cancel_reason = NULL
FROM json_each(:refs) AS outcome
WHERE jobrt_job.id = CAST(outcome.key AS INTEGER) AND jobrt_job.lease = outcome.value;
