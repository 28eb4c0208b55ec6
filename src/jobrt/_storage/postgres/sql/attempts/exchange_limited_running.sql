-- The running jobs of this queue, counted by key. A limited queue has few running jobs, by definition.
select coalesce({limit_key}, 'null'), count(*)
  from {schema}.job j where j.queue = :queue and j.state = 'executing'
 group by 1
