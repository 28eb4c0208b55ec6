-- All waiting jobs, in whatever order is fastest.
waiting as (
    select j.queue,
           count(*) filter (where j.state = 'available' or j.state = 'scheduled'
                                  and j.schedule_at <= statement_timestamp()) as available,
           count(*) filter (where j.state = 'scheduled' and j.schedule_at > statement_timestamp()) as scheduled,
           count(*) filter (where j.state = 'retryable') as retryable,
           min(j.schedule_at) filter (where j.schedule_at <= statement_timestamp()) as oldest,
           false as more, null::json as names
      from {schema}.job j where j.state in ('scheduled', 'available', 'retryable') group by j.queue
)
