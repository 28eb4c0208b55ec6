-- All priorities with waiting jobs, by skip scan.
found (scan, low, priority) as (
    {highest_in_gap}
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
