-- Make a job wait for children: flag those that are not final, under their row locks (finish_lock_families.sql holds
-- them already), and record them. A child that ends meanwhile either sees the flag or is found to be final here.
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
flagged as (
    update {schema}.job j set flags = (j.flags | 4)::smallint
     where j.id = any(:children::bigint[]) and j.finished_at is null and exists (select from parent)
    returning j.id, j.queue, j.state, j.schedule_at
),
noted as (
    insert into {schema}.dependency (child, parent)
    select f.id, p.id from flagged f cross join parent p
        on conflict do nothing
)
select distinct f.queue from flagged f
 where f.state in ('scheduled', 'available', 'retryable') and f.schedule_at <= statement_timestamp()
