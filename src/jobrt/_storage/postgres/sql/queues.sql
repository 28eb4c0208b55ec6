-- Unfinished jobs are in two partial indexes, so finished ones are not read.
with waiting as (
    select j.queue,
           count(*) filter (where j.state = 'available' or j.state = 'scheduled'
                                  and j.schedule_at <= statement_timestamp()) as available,
           count(*) filter (where j.state = 'scheduled' and j.schedule_at > statement_timestamp()) as scheduled,
           count(*) filter (where j.state = 'retryable') as retryable,
           min(j.schedule_at) filter (where j.schedule_at <= statement_timestamp()) as oldest
      from {schema}.job j where j.state in ('scheduled', 'available', 'retryable') group by j.queue
),
running as (
    select j.queue, count(*) as executing, array_agg(distinct j.worker) as workers
      from {schema}.job j where j.state = 'executing' group by j.queue
)
select n.name, coalesce(q.paused, false), q.concurrency, coalesce(w.available, 0), coalesce(w.scheduled, 0),
       coalesce(w.retryable, 0), coalesce(r.executing, 0),
       extract(epoch from statement_timestamp() - w.oldest)::double precision
  from waiting w
  full join running r using (queue)
  full join {schema}.queue q on q.name = queue
 cross join lateral (select coalesce(q.name, queue)) n(name)
 order by n.name collate "C"
