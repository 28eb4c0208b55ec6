-- Waits whose time is over. Rows of jobs that wait no longer are left from an earlier wait.
with due as (
    select w.job_id from {schema}.waiting w
     where w.job_id = any(:ids::bigint[]) and w.until <= statement_timestamp()
     order by w.until
       for update skip locked
),
woken as (
    update {schema}.job j set state = 'available'
     where j.id = any(array(select d.job_id from due d)) and j.state = 'suspended'
    returning j.id, j.queue
),
settled as (
    update {schema}.waiting w set until = null where w.job_id in (select d.job_id from due d)
)
select (select count(*) from due), array(select distinct k.queue from woken k)
