-- The first due jobs of a queue, in the order of claims.
select j.id from {schema}.job j
 where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
   and j.schedule_at <= statement_timestamp()
   and j.name = any(:names::text[]) and j.id <> all(:without::bigint[])
 order by j.priority desc, j.schedule_at, j.id
 limit :limit::bigint
