-- One index probe per queue.
select q.name, extract(epoch from d.schedule_at - statement_timestamp())::double precision
  from unnest(:queues::text[]) q(name)
 cross join lateral (
       select j.schedule_at from {schema}.job j
        where j.queue = q.name and j.state in ('scheduled', 'retryable')
          and j.schedule_at > statement_timestamp() and j.schedule_at < 'infinity'
        order by j.schedule_at limit 1) d
