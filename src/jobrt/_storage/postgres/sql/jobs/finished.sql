-- The ids of final jobs that match, by when they ended. The index on state, name and time has the jobs of each name in
-- this order: a skip scan finds the names, and of each of them only the first ones are read. By their ids they would be
-- read behind all newer jobs in other states.
with recursive known (state, name) as (
     (select j.state, j.name from {schema}.job j
       where j.finished_at is not null and j.state >= 'completed' order by j.state, j.name limit 1)
     union all
     select n.state, n.name
       from known k
      cross join lateral (
            select j.state, j.name from {schema}.job j
             where j.finished_at is not null and (j.state, j.name) > (k.state, k.name)
             order by j.state, j.name limit 1) n
)
select f.id
  from known k
 cross join lateral (
       select c.id, c.finished_at from {schema}.job c
        where c.state = k.state and c.name = k.name and c.finished_at is not null and {where}{behind}
        order by c.finished_at {way}, c.id {way} limit :limit::bigint) f
 where k.state::text = any(:states::text[])
 order by f.finished_at {way}, f.id {way} limit :limit::bigint
