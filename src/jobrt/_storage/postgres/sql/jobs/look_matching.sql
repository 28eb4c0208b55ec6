-- Of some jobs, those that match a filter, and have a text. `offset 0` has each job read by its id, whatever the filter:
-- for one on states the planner would read all of their index as well.
select array(
    select c.id
      from unnest(:ids::bigint[]) l (id)
     cross join lateral (select j.* from {schema}.job j where j.id = l.id offset 0) c
     where {where}{text})
