-- Make a job wait for children: record those that are not final, under their row locks, and flag them.
-- finish_lock_families.sql holds these locks already, but of jobs that were enqueued since. A child that ends meanwhile is found to be final here; else it has the flag. Most have it
-- from their insert, see `flags_in_a_worker`: to write each row again took a third of a fan-in.
--
-- Returns the queues of children that could run: a concurrent claim has skipped them, as in
-- jobs/await_final_flag.sql.
with parent as (
    select j.id from {schema}.job j
     where j.id = :parent::bigint and j.lease = -(:lease::bigint)
       and j.state = 'scheduled' and j.schedule_at = 'infinity'
),
forgotten as (
    delete from {schema}.dependency d
     where d.parent in (select p.id from parent p) and d.child <> all(:children::bigint[])
),
unfinished as (
    select j.id, j.queue, j.state, j.schedule_at, j.flags from {schema}.job j
     where j.id = any(:children::bigint[]) and j.finished_at is null and exists (select from parent)
     order by j.id
       for update
),
flagged as (
    update {schema}.job j set flags = (j.flags | 4)::smallint
     where j.id = any(array(select u.id from unfinished u where u.flags & 4 = 0))
),
noted as (
    insert into {schema}.dependency (child, parent)
    select u.id, p.id from unfinished u cross join parent p
        on conflict do nothing
)
select distinct u.queue from unfinished u
 where u.state in ('scheduled', 'available', 'retryable') and u.schedule_at <= statement_timestamp()
