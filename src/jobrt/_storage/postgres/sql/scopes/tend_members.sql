-- Living members of nurseries that are being ended. Those that were told, and those that are closing, are waited for.
select m.child_id
  from {schema}.nursery n
  join {schema}.member m on m.job_id = n.job_id and m.nursery = n.name and m.alive
  join {schema}.job j on j.id = m.child_id
 where n.ending and j.finished_at is null and j.state <> 'closing' and j.flags & 32 = 0
   and m.child_id <> all(:but::bigint[])
 limit :limit::bigint
