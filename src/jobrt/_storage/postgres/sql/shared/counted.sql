-- Counts of these jobs by hour, queue and name. The histogram has twelve classes of run time, each four times as wide
-- as the one before.
select x.hour, x.queue, x.name, sum(x.enqueued) as enqueued, sum(x.completed) as completed, sum(x.failed) as failed,
       sum(x.dead) as dead, sum(x.cancelled) as cancelled, sum(x.seconds) as seconds,
       array[count(*) filter (where x.class = 0), count(*) filter (where x.class = 1),
             count(*) filter (where x.class = 2), count(*) filter (where x.class = 3),
             count(*) filter (where x.class = 4), count(*) filter (where x.class = 5),
             count(*) filter (where x.class = 6), count(*) filter (where x.class = 7),
             count(*) filter (where x.class = 8), count(*) filter (where x.class = 9),
             count(*) filter (where x.class = 10), count(*) filter (where x.class = 11)] as histogram
  from (
      select date_trunc('hour', greatest(least(j.created_at, {last_time}), {first_time}), 'UTC') as hour, j.queue, j.name, 1 as enqueued, 0 as completed,
             0 as failed, 0 as dead, 0 as cancelled, 0::double precision as seconds, null::integer as class
        from {enqueued} j
      union all
      select date_trunc('hour', greatest(least(j.finished_at, {last_time}), {first_time}), 'UTC'), j.queue, j.name, 0, (j.state = 'completed')::integer, 0,
             (j.state = 'discarded')::integer, (j.state = 'cancelled')::integer, coalesce(r.seconds, 0),
             width_bucket(r.seconds, array[0.001, 0.004, 0.016, 0.064, 0.256, 1.024, 4.096, 16.384, 65.536, 262.144,
                                           1048.576]::double precision[])
        from {finished} j
       cross join lateral (
             select case when j.state = 'completed' and isfinite(j.finished_at) and isfinite(j.started_at)
                         then extract(epoch from j.finished_at - j.started_at)::double precision end as seconds) r
      union all
      select date_trunc('hour', greatest(least(a.finished_at, {last_time}), {first_time}), 'UTC'), j.queue, j.name, 0, 0, 1, 0, 0, 0, null
        from {failed}
  ) x
 group by x.hour, x.queue, x.name
