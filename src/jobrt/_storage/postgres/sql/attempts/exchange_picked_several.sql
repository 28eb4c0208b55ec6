-- One scan for the names without a cap, and one for each name with a cap, up to that cap. The first jobs of all scans
-- are claimed. `name` has the aliases of a name as well.
picked as (
    select k.id, k.size
      from unnest(:scan_name::text[], :scan_limit::integer[]) with ordinality s(name, most, scan)
      cross join lateral (
          select p.id, p.priority, p.schedule_at, p.size
            from (select v.priority, v.at, v.id from level v where v.scan = s.scan order by v.priority desc) l
            cross join lateral (
                select j.id, j.priority, j.schedule_at, {claimed_size} as size
                  from {schema}.job j
                 where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
                   and j.priority = l.priority
                   and (j.schedule_at, j.id) > (l.at, l.id) and j.schedule_at <= statement_timestamp()
                   and (j.name = any(string_to_array(s.name, chr(31))) or s.name is null and j.name = any(:names::text[]))
                   and {startable}
                   and {fits}
                 order by j.schedule_at, j.id
                 limit s.most
                   for update skip locked
            ) p
           limit s.most
      ) k
     where {may_claim}
     order by k.priority desc, k.schedule_at, k.id
     limit :limit::bigint
)
