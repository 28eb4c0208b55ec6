-- Two partial indexes contain the unfinished jobs, so finished ones are not read.
with recursive {waiting},
running as (
    select j.queue, count(*) filter (where j.started_at is null) as claimed, count(j.started_at) as executing
      from {schema}.job j where j.state = 'executing' group by j.queue
)
select n.name, coalesce(q.paused, false), q.concurrency, coalesce(w.available, 0), coalesce(w.scheduled, 0),
       coalesce(w.retryable, 0), coalesce(r.claimed, 0), coalesce(r.executing, 0),
       extract(epoch from statement_timestamp()
                          - case when w.oldest is not null then greatest(w.oldest, {first_time}) end)::double precision,
       coalesce(w.more, false), w.names::text
  from waiting w
  full join running r using (queue)
  full join {schema}.queue q on q.name = queue
 cross join lateral (select coalesce(q.name, queue)) n(name)
 order by n.name collate "C"
