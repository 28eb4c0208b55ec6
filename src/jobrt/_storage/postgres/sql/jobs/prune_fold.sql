-- Sum the rows of hours that are over, so that there is one per hour, queue and name again. Rows older than 400 days
-- are summed by month, at its first hour, so the table grows slowly.
with many as (
    select p.hour, p.queue, p.name from {schema}.past p
     where p.hour < statement_timestamp() - interval '2 hours'
     group by p.hour, p.queue, p.name having count(*) > 1
        or p.hour < statement_timestamp() - interval '400 days' and p.hour <> date_trunc('month', p.hour, 'UTC')
     order by p.hour limit 1000
),
gone as (
    delete from {schema}.past p using many m
     where p.hour = m.hour and p.queue = m.queue and p.name = m.name
    returning p.*
),
counted as (
    select p.hour, p.queue, p.name, {past_counts} from gone p
)
insert into {schema}.past (hour, queue, name, enqueued, completed, failed, dead, cancelled, seconds, histogram)
select case when g.hour < statement_timestamp() - interval '400 days' then date_trunc('month', g.hour, 'UTC')
            else g.hour end,
       g.queue, g.name, sum(g.enqueued), sum(g.completed), sum(g.failed), sum(g.dead), sum(g.cancelled),
       sum(g.seconds),
       array[sum(g.histogram[1]), sum(g.histogram[2]), sum(g.histogram[3]), sum(g.histogram[4]), sum(g.histogram[5]),
             sum(g.histogram[6]), sum(g.histogram[7]), sum(g.histogram[8]), sum(g.histogram[9]),
             sum(g.histogram[10]), sum(g.histogram[11]), sum(g.histogram[12])]::bigint[]
  from counted g
 group by 1, 2, 3
