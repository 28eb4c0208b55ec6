-- The row is not locked: an operator's cancel and a rescue must not wait for a job's long transaction. The
-- transaction is protected at its end: the outcome is written under the lease or not at all.
select j.id from {schema}.job j where j.id = :id::bigint and j.lease = :lease::bigint and j.lease > 0
