-- Running jobs of a queue, counted by name and by the key of the queue's limit.
select j.name, coalesce({limit_key}, 'null'), count(*)
  from {schema}.job j where j.queue = :queue and j.state = 'executing'
 group by 1, 2
