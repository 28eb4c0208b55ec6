-- Not locked: an operator's cancel and a rescue must not wait for a job's long transaction. What protects the
-- transaction is its end, which is written under the lease or not at all.
select j.id from {schema}.job j where j.id = :id::bigint and j.lease = :lease::bigint and j.lease > 0
