-- Running jobs of one queue whose key is of another setting, or missing.
select j.id, j.name, j.args, j.metadata from {schema}.job j
 where j.queue = :queue and j.state = 'executing'
   and (j.limit_key is null or j.limit_key < :low or j.limit_key >= :high)
