-- Waiting jobs end immediately. For running ones a request is stored, and their workers are notified. Rows are locked
-- in the order of ids, and their state is read after that: a job that is claimed meanwhile gets a request. From now on
-- none of its descendants is claimed: the nurseries of a job that is closing now are ended by the trigger. A job that is
-- closing on its way to a retry will be cancelled instead. Each job has a time of its own: the index of final jobs has no
-- ids, so those of the same time would be sorted to list a few of them.
--
-- The order of the living members is that of their index. Without it, the planner may read the table from its beginning
-- for the first one, past all members of others.
with picked as (
    select c.id from {schema}.job c
     where (c.state in ('scheduled', 'available', 'retryable', 'executing', 'suspended')
            and (c.state <> 'executing' and coalesce(c.lease < 0, true) or c.cancel_reason is null)
            or c.state = 'closing' and exists (
               select from {schema}.waiting w where w.job_id = c.id and w.kind = 'close' and w.name = 'retryable'))
       and ({where})
     order by c.id limit :limit::bigint
       for update
),
changed as (
    update {schema}.job j
       set state = case when j.state = 'closing' or {held} then j.state else 'cancelled' end,
           lease = case when j.state = 'closing' or {held} then j.lease end,
           finished_at = case when not (j.state = 'closing' or {held}) then clock_timestamp() end,
           cancel_reason = :reason
     where j.id = any(array(select p.id from picked p))
    returning j.id, case when {closes} then 'closing' else j.state::text end as state, j.flags
),
decided as (
    update {schema}.waiting w set name = 'cancelled'
     where w.job_id in (select h.id from changed h where h.state = 'closing') and w.kind = 'close' and w.name = 'retryable'
),
ended as (
    update {schema}.nursery n
       set ending = true, state = case when n.state = 'open' then 'cancelled' else n.state end
     where n.job_id in (select h.id from changed h where h.state not in ('cancelled', 'closing') and h.flags & 16 <> 0)
       and (select true from {schema}.living l where l.job_id = n.job_id and l.nursery = n.name
             order by l.job_id, l.nursery, l.child_id limit 1)
)
select count(*) filter (where h.state = 'cancelled'), count(*) filter (where h.state <> 'cancelled') from changed h
