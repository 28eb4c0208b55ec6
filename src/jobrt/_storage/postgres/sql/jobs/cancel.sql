-- Waiting jobs end at once; for running ones the wish is noted, and their worker told. Locked in the order of
-- ids, and judged by what they are once they are locked: one that is claimed meanwhile is asked, not ended.
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
