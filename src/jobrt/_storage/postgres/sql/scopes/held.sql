-- The row of a running or parked job, locked, under its lease.
select j.flags from {schema}.job j
 where j.id = :id::bigint and j.lease = :lease::bigint and j.lease > 0 and j.state = 'executing'
   for no key update
