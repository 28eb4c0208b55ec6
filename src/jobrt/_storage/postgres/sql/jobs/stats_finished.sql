-- Final jobs that ended since a time, by skip scan over state and name. Only PostgreSQL 18 does a skip scan by itself
-- for a condition on the time. `offset 0` keeps each step an index probe.
(with recursive known (state, name) as ({known_ends})
 select f.*
   from known k
  cross join lateral (
        select j.* from {schema}.job j
         where j.state = k.state and j.name = k.name
           and j.finished_at is not null and j.finished_at >= :since::timestamptz
        offset 0) f)
