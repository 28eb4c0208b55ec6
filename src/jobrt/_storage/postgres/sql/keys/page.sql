-- Waiting jobs of one queue after a position in the order of claims; those whose key is of another setting, or missing,
-- with what a key is made of. Goes from priority to priority, as claims do.
with recursive {levels_from}
select l.priority, c.schedule_at::text, c.id, c.missing, case when c.missing then c.name end,
       case when c.missing then c.args end, case when c.missing then c.metadata end
  from level l
 cross join lateral (
       select j.id, j.name, j.args, j.metadata, j.schedule_at,
              j.limit_key is null or j.limit_key < :low or j.limit_key >= :high as missing
         from {schema}.job j
        where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
          and j.priority = l.priority
          and (j.schedule_at, j.id) > (case when l.priority = :priority::bigint then :at::timestamptz
                                            else '-infinity' end,
                                       case when l.priority = :priority::bigint then :id::bigint else 0 end)
        order by j.schedule_at, j.id
        limit :limit::bigint) c
 limit :limit::bigint
