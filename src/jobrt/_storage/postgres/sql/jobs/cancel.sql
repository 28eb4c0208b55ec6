-- Waiting jobs end immediately. For running ones a request is stored, and their workers are notified. Rows are locked
-- in the order of ids, and their state is read after that: a job that is claimed meanwhile gets a request.
with picked as (
    select c.id from {schema}.job c
     where c.state in ('scheduled', 'available', 'retryable', 'executing')
       and (c.state <> 'executing' or c.cancel_reason is null) and ({where})
     order by c.id limit :limit::bigint
       for update
),
changed as (
    update {schema}.job j
       set state = case when j.state = 'executing' then j.state else 'cancelled' end,
           lease = case when j.state = 'executing' then j.lease end,
           finished_at = case when j.state <> 'executing' then statement_timestamp() end,
           cancel_reason = :reason
     where j.id = any(array(select p.id from picked p))
    returning j.state
)
select count(*) filter (where h.state = 'cancelled'), count(*) filter (where h.state = 'executing') from changed h
