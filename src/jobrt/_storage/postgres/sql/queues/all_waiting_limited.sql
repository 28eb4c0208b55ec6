-- Waiting jobs by queue and priority, found by skip scan. They are counted in index order, due and future ones
-- separately, up to the limit.
known (queue) as (
    (select j.queue from {schema}.job j
      where j.state in ('scheduled', 'available', 'retryable') order by j.queue limit 1)
    union all
    select (select j.queue from {schema}.job j
             where j.state in ('scheduled', 'available', 'retryable') and j.queue > k.queue
             order by j.queue limit 1)
      from known k where k.queue is not null
),
lane (queue, priority) as (
    select k.queue, (select j.priority from {schema}.job j
                      where j.state in ('scheduled', 'available', 'retryable') and j.queue = k.queue
                      order by j.priority desc limit 1)
      from known k where k.queue is not null
    union all
    select l.queue, (select j.priority from {schema}.job j
                      where j.state in ('scheduled', 'available', 'retryable') and j.queue = l.queue
                        and j.priority < l.priority
                      order by j.priority desc limit 1)
      from lane l where l.priority is not null
),
waiting as (
    select l.queue, sum(due.available + later.available)::bigint as available, sum(later.scheduled)::bigint as scheduled,
           sum(due.retryable + later.retryable)::bigint as retryable, min(due.oldest) as oldest,
           bool_or(due.seen >= :limit::bigint or later.seen >= :limit::bigint) as more,
           json_agg(due.names) as names
      from lane l
     cross join lateral (
           select count(*) as seen, count(*) filter (where d.state <> 'retryable') as available,
                  count(*) filter (where d.state = 'retryable') as retryable, min(d.schedule_at) as oldest,
                  array_agg(distinct d.name) as names
             from (select j.state, j.schedule_at, j.name from {schema}.job j
                    where j.state in ('scheduled', 'available', 'retryable') and j.queue = l.queue
                      and j.priority = l.priority and j.schedule_at <= statement_timestamp()
                    order by j.schedule_at limit :limit::bigint) d) due
     cross join lateral (
           select count(*) as seen, count(*) filter (where s.state = 'retryable') as retryable,
                  count(*) filter (where s.state = 'available') as available,
                  count(*) filter (where s.state = 'scheduled') as scheduled
             from (select j.state from {schema}.job j
                    where j.state in ('scheduled', 'available', 'retryable') and j.queue = l.queue
                      and j.priority = l.priority and j.schedule_at > statement_timestamp()
                    order by j.schedule_at limit :limit::bigint) s) later
     where l.priority is not null
     group by l.queue
)
