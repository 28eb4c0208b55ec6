-- Members that run again are alive again.
with again as (
    update {schema}.member m
       set failed = false, attempt = (select p.attempt from {schema}.job p where p.id = :id::bigint)
     where m.job_id = :id::bigint and m.nursery = :name and m.child_id = any(:children::bigint[]) and m.kind = 'c'
    returning m.child_id
)
insert into {schema}.living (child_id, job_id, nursery)
select a.child_id, :id::bigint, :name from again a
    on conflict (child_id) do nothing
