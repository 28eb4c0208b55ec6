-- Delete jobs and add their counts to `past`. A separate statement deletes their side rows: it also sees those that
-- were written while this one waited for a row lock.
with picked as (
    select c.id from {schema}.job c
     where ({where})
       and (c.flags & 16 = 0 or not exists (select from {schema}.living l where l.job_id = c.id))
     order by c.id limit :limit::bigint
       for update {locked}
),
gone as (
    delete from {schema}.job j where j.id = any(array(select p.id from picked p))
    returning j.id, j.queue, j.name, j.state, j.created_at, j.started_at, j.finished_at
),
counted as (
    {counted}
),
added as (
    insert into {schema}.past (hour, queue, name, enqueued, completed, failed, dead, cancelled, seconds, histogram)
    select n.hour, n.queue, n.name, n.enqueued, n.completed, n.failed, n.dead, n.cancelled, n.seconds, n.histogram
      from counted n
)
select array(select g.id from gone g)
