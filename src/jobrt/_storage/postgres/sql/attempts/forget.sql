-- Deletes what a job has decided so far.
with steps as (delete from {schema}.step s where s.job_id = :id::bigint)
delete from {schema}.answer a where a.job_id = :id::bigint and a.ended is not null
