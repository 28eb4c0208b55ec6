-- Due jobs in claim order, after a position in it, except those whose key has no room. Goes from priority to priority
-- as in exchange_found_all.sql, so that future jobs are not scanned.
with recursive level (priority) as (
    select (select j.priority from {schema}.job j
             where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
               and j.priority <= :priority::bigint
             order by j.priority desc limit 1)
    union all
    select (select j.priority from {schema}.job j
             where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
               and j.priority < l.priority
             order by j.priority desc limit 1)
      from level l where l.priority is not null
)
select c.id, c.name, c.key, l.priority, c.schedule_at::text, c.id, c.size
  from level l
 cross join lateral (
       select j.id, j.name, coalesce({limit_key}, 'null') as key, j.schedule_at, {claimed_size} as size
         from {schema}.job j
        where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
          and j.priority = l.priority and j.schedule_at <= statement_timestamp()
          and (j.schedule_at, j.id) > (case when l.priority = :priority::bigint then :at::timestamptz
                                            else '-infinity' end,
                                       case when l.priority = :priority::bigint then :id::bigint else 0 end)
          and j.name = any(:names::text[])
          and {startable}
          and {fits}
          and coalesce({limit_key}, 'null') <> all(:full::text[])
        order by j.schedule_at, j.id
        limit :limit::bigint) c
 where {may_claim}
 limit :limit::bigint
