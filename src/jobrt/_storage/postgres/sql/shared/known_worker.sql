-- The condition on the row of a worker whose lease holds. clock_timestamp(): a heartbeat that waited for the lock of a
-- rescue must use the time after the wait.
--
-- The row must be at least as new as the last heartbeat that was answered. It is older if the database was restored:
-- then other rows about this worker are old too. jsonb is compared, because that never fails.
w.expires_at > clock_timestamp()
   and coalesce({schema}.as_json(w.info) -> 'beat', '0') >= to_jsonb(:since::bigint)
