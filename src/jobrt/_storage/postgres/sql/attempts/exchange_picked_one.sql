-- One scan for all names together. The levels are read in order until the limit is reached, so no more rows are
-- locked than are claimed.
picked as (
    select p.id, p.size
      from (select v.priority, v.at, v.id from level v order by v.priority desc) l
      cross join lateral (
          select j.id, {claimed_size} as size
            from {schema}.job j
           where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
             and j.priority = l.priority
             and (j.schedule_at, j.id) > (l.at, l.id) and j.schedule_at <= statement_timestamp()
             and j.name = any(:names::text[])
             and {startable}
             and {fits}
           order by j.schedule_at, j.id
           limit :limit::bigint
             for update skip locked
      ) p
     where {may_claim}
     limit :limit::bigint
)
