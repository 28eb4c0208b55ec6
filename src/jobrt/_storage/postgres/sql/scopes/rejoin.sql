-- Members that run again are alive again.
update {schema}.member m
   set alive = true, failed = false, attempt = (select p.attempt from {schema}.job p where p.id = :id::bigint)
 where m.job_id = :id::bigint and m.nursery = :name and m.child_id = any(:children::bigint[]) and m.kind = 'c'
