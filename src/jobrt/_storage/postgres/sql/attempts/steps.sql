select s.name, s.value from {schema}.step s where s.job_id = :id::bigint order by s.name
