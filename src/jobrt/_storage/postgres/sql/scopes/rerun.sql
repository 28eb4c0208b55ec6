-- Final members of a nursery run again, with a fresh count of attempts.
with picked as (
    select c.id from {schema}.job c
     where c.id = any(:children::bigint[]) and c.state in ('cancelled', 'discarded', 'completed')
     order by c.id desc
       for update
),
limits as (
    delete from {schema}.deadline d where d.job_id in (select p.id from picked p)
),
cleared as (
    update {schema}.detail d set result = null
     where d.job_id in (select p.id from picked p) and d.result is not null
)
update {schema}.job j
   set state = 'available', lease = null, attempt = 0, finished_at = null, started_at = null, cancel_reason = null,
       flags = (j.flags & ~96)::smallint & ~(128::smallint),
       max_attempts = j.max_attempts
 where j.id = any(array(select p.id from picked p))
returning j.id, j.queue
