with attempts as (delete from {schema}.attempt a where a.job_id = any(:ids::bigint[])),
     details as (delete from {schema}.detail d where d.job_id = any(:ids::bigint[])),
     steps as (delete from {schema}.step s where s.job_id = any(:ids::bigint[]))
delete from {schema}.dependency d where d.parent = any(:ids::bigint[])
