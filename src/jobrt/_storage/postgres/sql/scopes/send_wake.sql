update {schema}.job j set state = 'available'
 where j.id = :id::bigint and j.state = 'suspended'
   and exists (select from {schema}.waiting w
                where w.job_id = j.id and w.kind = 'message' and w.name = :name)
returning j.queue
