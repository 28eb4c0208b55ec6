-- Nurseries whose deadline has passed. It matters while their body runs or members are alive; a parent that waits in the
-- body is woken. The parent's row is locked first, as everywhere.
with picked as (
    select n.job_id, n.name
      from {schema}.nursery n join {schema}.job j on j.id = n.job_id
     where n.job_id = any(:ids::bigint[]) and n.deadline <= statement_timestamp() and n.state = 'open'
       for no key update of j skip locked
),
late as (
    update {schema}.nursery n
       set state = case when alive.found or not n.sealed then 'too_slow' else 'open' end,
           ending = alive.found, deadline = null
      from picked p
     cross join lateral (select exists (
           select from {schema}.living l where l.job_id = p.job_id and l.nursery = p.name)) alive(found)
     where n.job_id = p.job_id and n.name = p.name and n.state = 'open' and n.deadline <= statement_timestamp()
    returning n.job_id, n.name, n.state = 'too_slow' as told
),
woken as (
    update {schema}.job j set state = 'available'
      from late l join {schema}.waiting w on w.job_id = l.job_id and not (w.kind = 'children' and w.name = l.name)
     where j.id = l.job_id and j.state = 'suspended' and l.told
    returning j.id, j.queue
)
select l.told, (select k.queue from woken k where k.id = l.job_id) from late l
