-- Request a notification when these jobs end. Rows are locked in the order of ids. A job that ends meanwhile is not
-- flagged; await_final_states.sql has a newer snapshot and sees its final state. A flagged job is not locked again: ends
-- of its children lock it, too.
--
-- A claim skips a job whose row is locked, and nothing else would wake its queue again. So the queues of jobs that
-- could run are returned, to be woken after the commit.
with flagged as (
    update {schema}.job j set flags = (j.flags | 2)::smallint
     where j.finished_at is null and j.flags & 2 = 0
       and j.id = any(array(select p.id from {schema}.job p
                             where p.id = any(:ids::bigint[]) and p.finished_at is null and p.flags & 2 = 0
                             order by p.id for update))
    returning j.queue, j.state, j.schedule_at
)
select distinct f.queue from flagged f
 where f.state in ('scheduled', 'available', 'retryable') and f.schedule_at <= statement_timestamp()
