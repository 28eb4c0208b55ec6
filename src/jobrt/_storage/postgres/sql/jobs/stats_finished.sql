-- Final jobs that ended since a time. From state and name to state and name by skipping through the index, because
-- only PostgreSQL 18 does so by itself when it is asked for a time; `offset 0` keeps each step a look into the index.
(with recursive known (state, name) as (
     (select j.state, j.name from {schema}.job j where j.finished_at is not null order by j.state, j.name limit 1)
     union all
     select n.state, n.name
       from known k
      cross join lateral (
            select j.state, j.name from {schema}.job j
             where j.finished_at is not null and (j.state, j.name) > (k.state, k.name)
             order by j.state, j.name limit 1) n
 )
 select f.*
   from known k
  cross join lateral (
        select j.* from {schema}.job j
         where j.state = k.state and j.name = k.name
           and j.finished_at is not null and j.finished_at >= :since::timestamptz
        offset 0) f)
