-- What ended in a range of time, by slots of :step, and how many rows are final jobs and failed attempts.
-- The index on state, name and time gives the range: see shared/known_ends.sql. Each part stops behind :limit.
with recursive known (state, name) as ({known_ends}),
final as (
     select f.*
       from known k
      cross join lateral (
            select j.queue, j.name, j.state, j.finished_at, j.started_at, j.schedule_at from {schema}.job j
             where j.state = k.state and j.name = k.name and j.finished_at is not null
               and j.finished_at >= :since::timestamptz and j.finished_at < :until::timestamptz
            offset 0) f
      limit :limit::bigint
),
failed as (
     select j.queue, j.name, a.finished_at
       from {failed}
        and a.finished_at >= :since::timestamptz and a.finished_at < :until::timestamptz
      limit :limit::bigint
)
select s.slot, s.queue, s.name, sum(s.completed)::bigint, sum(s.failed)::bigint, sum(s.dead)::bigint,
       sum(s.cancelled)::bigint, sum(s.seconds)::double precision, sum(s.waited)::double precision,
       array[sum(s.histogram[1]), sum(s.histogram[2]), sum(s.histogram[3]), sum(s.histogram[4]),
             sum(s.histogram[5]), sum(s.histogram[6]), sum(s.histogram[7]), sum(s.histogram[8]),
             sum(s.histogram[9]), sum(s.histogram[10]), sum(s.histogram[11]), sum(s.histogram[12])]::bigint[],
       array[sum(s.waits[1]), sum(s.waits[2]), sum(s.waits[3]), sum(s.waits[4]), sum(s.waits[5]),
             sum(s.waits[6]), sum(s.waits[7]), sum(s.waits[8]), sum(s.waits[9]), sum(s.waits[10]),
             sum(s.waits[11]), sum(s.waits[12])]::bigint[],
       sum(s.final)::bigint, sum(s.attempts)::bigint
  from (
      select date_bin(:step::interval, x.finished_at, '1970-01-01 00:00:00+00') as slot, x.queue, x.name,
             sum(x.completed) as completed, sum(x.failed) as failed, sum(x.dead) as dead, sum(x.cancelled) as cancelled,
             sum(x.seconds) as seconds, sum(x.waited) as waited,
             array[count(*) filter (where x.ran = 0), count(*) filter (where x.ran = 1), count(*) filter (where x.ran = 2),
                   count(*) filter (where x.ran = 3), count(*) filter (where x.ran = 4), count(*) filter (where x.ran = 5),
                   count(*) filter (where x.ran = 6), count(*) filter (where x.ran = 7), count(*) filter (where x.ran = 8),
                   count(*) filter (where x.ran = 9), count(*) filter (where x.ran = 10), count(*) filter (where x.ran = 11)] as histogram,
             array[count(*) filter (where x.wait = 0), count(*) filter (where x.wait = 1), count(*) filter (where x.wait = 2),
                   count(*) filter (where x.wait = 3), count(*) filter (where x.wait = 4), count(*) filter (where x.wait = 5),
                   count(*) filter (where x.wait = 6), count(*) filter (where x.wait = 7), count(*) filter (where x.wait = 8),
                   count(*) filter (where x.wait = 9), count(*) filter (where x.wait = 10), count(*) filter (where x.wait = 11)] as waits,
             sum(1 - x.failed) as final, sum(x.failed) as attempts
        from (
            select f.finished_at, f.queue, f.name, (f.state = 'completed')::integer as completed, 0 as failed,
                   (f.state = 'discarded')::integer as dead, (f.state = 'cancelled')::integer as cancelled,
                   coalesce(r.seconds, 0) as seconds, coalesce(r.waited, 0) as waited,
                   width_bucket(r.seconds, array[0.001, 0.004, 0.016, 0.064, 0.256, 1.024, 4.096, 16.384, 65.536, 262.144, 1048.576]::double precision[]) as ran,
                   width_bucket(r.waited, array[0.001, 0.004, 0.016, 0.064, 0.256, 1.024, 4.096, 16.384, 65.536, 262.144, 1048.576]::double precision[]) as wait
              from final f
             cross join lateral (
                   select case when f.state = 'completed' and isfinite(f.finished_at) and isfinite(f.started_at)
                               then extract(epoch from f.finished_at - f.started_at)::double precision end as seconds,
                          case when f.state = 'completed' and isfinite(f.started_at) and isfinite(f.schedule_at)
                               then greatest(extract(epoch from f.started_at - f.schedule_at), 0)::double precision
                               end as waited) r
            union all
            select f.finished_at, f.queue, f.name, 0, 1, 0, 0, 0, 0, null, null
              from failed f
        ) x
       group by 1, 2, 3
      union all
      select p.hour, p.queue, p.name, p.completed, p.failed, p.dead, p.cancelled, p.seconds, 0, p.histogram, null, 0, 0
        from (select p.hour, p.queue, p.name, {past_counts}
                from {schema}.past p
               where :deleted::boolean and p.hour >= :since::timestamptz and p.hour < :until::timestamptz) p
  ) s
 group by s.slot, s.queue, s.name
