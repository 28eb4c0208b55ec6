-- The first value is kept: a step that two attempts have finished has one result. Locked as in save.sql.
with held as (
    select j.id from {schema}.job j
     where j.id = :id::bigint and j.lease = :lease::bigint and j.lease > 0
       for no key update
),
stored as (
    insert into {schema}.step (job_id, name, value)
    select h.id, :name, :value from held h
        on conflict do nothing
)
select h.id from held h
