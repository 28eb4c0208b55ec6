-- The lease is cleared: a late outcome of an earlier attempt must not count for a job that was cancelled.
UPDATE jobrt_job SET state = 5, lease = NULL, cancel_reason = :reason, finished_at = :now
WHERE id IN (SELECT value FROM json_each(:ids)) AND (state < 3 OR state = 7) AND ifnull(lease < 0, 1)
RETURNING id;
