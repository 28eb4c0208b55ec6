-- The priorities of the waiting jobs of each queue. A skip scan: a probe of the index for each.
with recursive known (queue, priority) as (
    (select q.queue, n.priority
       from unnest(:queues::text[]) q (queue)
      cross join lateral (
            select j.priority from {schema}.job j
             where j.state in ('scheduled', 'available', 'retryable') and j.queue = q.queue
             order by j.queue, j.priority desc limit 1) n
      union all
     (select j.queue, j.priority from {schema}.job j
       where :all::boolean and j.state in ('scheduled', 'available', 'retryable')
       order by j.queue, j.priority desc limit 1))
     union all
    select n.queue, n.priority
      from known k
     cross join lateral (
           (select j.queue, j.priority from {schema}.job j
             where j.state in ('scheduled', 'available', 'retryable')
               and j.queue = k.queue and j.priority < k.priority
             order by j.queue, j.priority desc limit 1)
            union all
           (select j.queue, j.priority from {schema}.job j
             where :all::boolean and j.state in ('scheduled', 'available', 'retryable') and j.queue > k.queue
             order by j.queue, j.priority desc limit 1)
            limit 1) n
)
select k.queue, k.priority from known k limit :most::bigint
