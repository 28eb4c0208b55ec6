-- Due jobs in the order of claims, behind a place in it, without those whose key has no room.
select j.id, j.name, coalesce({cluster_key}, 'null'), j.priority, j.schedule_at::text, j.id
  from {schema}.job j
 where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
   and j.schedule_at <= statement_timestamp()
   and j.name = any(:names::text[])
   and coalesce({cluster_key}, 'null') <> all(:full::text[])
   and (:priority::integer is null or j.priority < :priority::integer
        or j.priority = :priority::integer and (j.schedule_at, j.id) > (:at::timestamptz, :id::bigint))
   and not exists (select from {schema}.queue q where q.name = :queue and q.paused)
 order by j.priority desc, j.schedule_at, j.id
 limit :limit::bigint
