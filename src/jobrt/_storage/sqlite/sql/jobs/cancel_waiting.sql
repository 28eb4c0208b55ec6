-- The lease goes: what an earlier attempt has to say is about a job that was ended otherwise.
UPDATE jobrt_job SET state = 5, lease = NULL, cancel_reason = :reason, finished_at = :now
WHERE id IN (SELECT value FROM json_each(:ids)) AND state < 3
RETURNING id;
