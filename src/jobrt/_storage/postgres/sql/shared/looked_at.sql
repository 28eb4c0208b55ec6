-- Due jobs of one queue after a position in the order of claims, :look at most. Goes from priority to priority, as
-- claims do.
select l.priority, c.schedule_at, c.id, c.name
  from level l
 cross join lateral (
       select j.id, j.name, j.schedule_at
         from {schema}.job j
        where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
          and j.priority = l.priority
          and (j.schedule_at, j.id) > (case when l.priority = :priority::bigint then :at::timestamptz
                                            else '-infinity' end,
                                       case when l.priority = :priority::bigint then :id::bigint else 0 end)
          and j.schedule_at <= statement_timestamp()
        order by j.schedule_at, j.id
        limit :look::bigint) c
 limit :look::bigint
