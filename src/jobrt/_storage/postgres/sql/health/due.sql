-- Some of the due jobs of a queue, counted by name and by the key of the queue's limit.
select s.name, s.key, count(*)
  from (select j.name, coalesce({limit_key}, 'null') as key from {schema}.job j
         where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
           and j.schedule_at <= statement_timestamp()
         limit :limit::bigint) s
 group by s.name, s.key
