-- Living members of nurseries that are being ended. Those that were told, and those that are closing, are waited for.
select l.child_id
  from {schema}.nursery n
  join {schema}.living l on l.job_id = n.job_id and l.nursery = n.name
  join {schema}.job j on j.id = l.child_id
 where n.ending and j.finished_at is null and j.state <> 'closing' and j.flags & 32 = 0
   and l.child_id <> all(:but::bigint[])
 limit :limit::bigint
