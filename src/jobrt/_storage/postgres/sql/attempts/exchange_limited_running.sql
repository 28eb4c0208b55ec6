-- What runs of this queue, by key. The running jobs of a limited queue are few, by definition.
select coalesce({limit_key}, 'null'), count(*)
  from {schema}.job j where j.queue = :queue and j.state = 'executing'
 group by 1
