-- The counts of existing jobs and those of deleted ones.
select greatest(least(s.hour, {last_time}), {first_time}) at time zone 'UTC', s.queue, s.name, sum(s.enqueued)::bigint, sum(s.completed)::bigint,
       sum(s.failed)::bigint, sum(s.dead)::bigint, sum(s.cancelled)::bigint, sum(s.seconds)::double precision,
       array[sum(s.histogram[1]), sum(s.histogram[2]), sum(s.histogram[3]), sum(s.histogram[4]), sum(s.histogram[5]),
             sum(s.histogram[6]), sum(s.histogram[7]), sum(s.histogram[8]), sum(s.histogram[9]),
             sum(s.histogram[10]), sum(s.histogram[11]), sum(s.histogram[12])]::bigint[]
  from (
      select n.* from ({counted}) n
      union all
      select date_trunc('hour', p.hour, 'UTC'), p.queue, p.name, {past_counts}
        from {schema}.past p where p.hour >= date_trunc('hour', :since::timestamptz, 'UTC')
  ) s
 group by s.hour, s.queue, s.name
 order by s.hour, s.queue collate "C", s.name collate "C"
