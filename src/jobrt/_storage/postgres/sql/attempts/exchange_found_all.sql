-- All priorities with waiting jobs, by skipping from one to the next.
found (scan, low, priority) as (
    select g.scan, g.low,
           (select j.priority from {schema}.job j
             where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
               and j.priority < g.high and j.priority > g.low
             order by j.priority desc limit 1)
      from unnest(:gap_scan::integer[], :gap_high::bigint[], :gap_low::bigint[]) g(scan, high, low)
    union all
    select f.scan, f.low,
           (select j.priority from {schema}.job j
             where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
               and j.priority < f.priority and j.priority > f.low
             order by j.priority desc limit 1)
      from found f where f.priority is not null
),
level (scan, priority, at, id) as (
    select f.scan, f.priority, timestamptz '-infinity', 0::bigint from found f where f.priority is not null
)
