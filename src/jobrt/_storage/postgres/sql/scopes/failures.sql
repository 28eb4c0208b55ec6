select m.child_id from {schema}.member m
 where m.job_id = :id::bigint and m.nursery = :name and m.failed
 order by m.number
 limit :limit::bigint
