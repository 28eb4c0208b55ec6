-- The states and names of final jobs, for `with recursive known (state, name)`. A skip scan: a probe of the index for
-- each. Only PostgreSQL 18 does a skip scan by itself.
(select j.state, j.name from {schema}.job j where j.finished_at is not null order by j.state, j.name limit 1)
 union all
 select n.state, n.name
   from known k
  cross join lateral (
        select j.state, j.name from {schema}.job j
         where j.finished_at is not null and (j.state, j.name) > (k.state, k.name)
         order by j.state, j.name limit 1) n
