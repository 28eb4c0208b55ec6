update {schema}.answer a set ended = :ended
 where a.job_id = :id::bigint and a.kind = :kind and a.name = :name and a.number = :number::bigint
