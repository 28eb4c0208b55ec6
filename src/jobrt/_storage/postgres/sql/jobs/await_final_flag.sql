-- Ask for the end of these jobs to be told. Locked in the order of ids; one that ends meanwhile is not flagged,
-- and await_final_states.sql, whose snapshot is newer, sees it final.
--
-- A claim that comes by while the lock is held skips the job, and nobody else would wake its queue again: so the
-- queues of jobs that could run are returned, to be woken once this is committed.
with flagged as (
    update {schema}.job j set flags = (j.flags | 2)::smallint
     where j.finished_at is null and j.flags & 2 = 0
       and j.id = any(array(select p.id from {schema}.job p
                             where p.id = any(:ids::bigint[]) and p.finished_at is null order by p.id for update))
    returning j.queue, j.state, j.schedule_at
)
select distinct f.queue from flagged f
 where f.state in ('scheduled', 'available', 'retryable') and f.schedule_at <= statement_timestamp()
