select n.state, n.reason, n.sealed, n.retried,
       exists (select from {schema}.living l where l.job_id = n.job_id and l.nursery = n.name),
       (select count(*) from (select from {schema}.member m where m.job_id = n.job_id and m.nursery = n.name limit 1) o),
       n.deadline is not null
  from {schema}.nursery n
 where n.job_id = :id::bigint and n.name = :name
