-- Delete jobs and add what they did to what is past. Their side rows go in a statement of its own, which sees
-- also those that were written while this one waited for a row lock.
with picked as (
    select c.id from {schema}.job c where {where} order by c.id limit :limit::bigint
       for update
),
gone as (
    delete from {schema}.job j where j.id = any(array(select p.id from picked p))
    returning j.id, j.queue, j.name, j.state, j.created_at, j.started_at, j.finished_at
),
counted as (
    {counted}
),
added as (
    insert into {schema}.past as p
           (hour, queue, name, enqueued, completed, failed, dead, cancelled, seconds, histogram)
    select n.* from counted n order by n.hour, n.queue, n.name
        on conflict (hour, queue, name) do update
       set enqueued = p.enqueued + excluded.enqueued, completed = p.completed + excluded.completed,
           failed = p.failed + excluded.failed, dead = p.dead + excluded.dead,
           cancelled = p.cancelled + excluded.cancelled, seconds = p.seconds + excluded.seconds,
           histogram = array(select coalesce(a.n, 0) + coalesce(b.n, 0)
                               from unnest(p.histogram) with ordinality a(n, i)
                               full join unnest(excluded.histogram) with ordinality b(n, i) using (i) order by i)
)
select array(select g.id from gone g)
