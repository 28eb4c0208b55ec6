-- The priorities from :priority down that have waiting jobs in a queue, by skip scan.
level (priority) as (
    select (select j.priority from {schema}.job j
             where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
               and j.priority <= :priority::bigint
             order by j.priority desc limit 1)
    union all
    select (select j.priority from {schema}.job j
             where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
               and j.priority < l.priority
             order by j.priority desc limit 1)
      from level l where l.priority is not null
)
