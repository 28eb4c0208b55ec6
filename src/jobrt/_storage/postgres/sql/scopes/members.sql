select m.number, m.identity, m.child_id, coalesce(j.name, ''), coalesce(j.state::text, 'cancelled'), m.kind = 'c',
       m.attempt = (select p.attempt from {schema}.job p where p.id = :id::bigint)
  from {schema}.member m
  left join {schema}.job j on j.id = m.child_id
 where m.job_id = :id::bigint and m.nursery = :name and m.number > :after::bigint
 order by m.number
 limit :limit::bigint
