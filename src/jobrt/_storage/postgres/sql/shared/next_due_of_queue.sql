-- If the queue is held, no job can start until that is over.
coalesce(
(select q.held_until from {schema}.queue q where q.name = :queue and {in_force}),
(select j.schedule_at from {schema}.job j
  where j.queue = :queue and j.state in ('scheduled', 'retryable')
    and j.schedule_at > statement_timestamp() and j.schedule_at < 'infinity'
  order by j.schedule_at limit 1))
