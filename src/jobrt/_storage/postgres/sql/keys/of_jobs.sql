-- Of these jobs, those that have a key or whose queue has one.
select j.id, q.key, j.name, j.args, j.metadata
  from {schema}.job j left join {schema}.queue q on q.name = j.queue
 where j.id = any(:ids::bigint[]) and (q.key is not null or j.limit_key is not null)
