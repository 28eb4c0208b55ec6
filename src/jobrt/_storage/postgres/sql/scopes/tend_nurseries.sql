-- Nurseries whose deadline has passed.
with late as (
    select n.job_id, n.name from {schema}.nursery n
     where n.deadline <= statement_timestamp() and n.state = 'open'
     limit :limit::bigint
       for update skip locked
)
update {schema}.nursery n
   set state = case when alive.found then 'too_slow' else 'open' end,
       ending = alive.found, deadline = null
  from late l
 cross join lateral (
       select exists (select from {schema}.member m where m.job_id = l.job_id and m.nursery = l.name and m.alive)) alive(found)
 where n.job_id = l.job_id and n.name = l.name
returning n.ending
