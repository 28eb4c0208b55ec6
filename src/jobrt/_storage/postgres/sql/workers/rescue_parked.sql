-- Jobs that a dead worker has parked wait on without it. One that is asked to stop ends.
with gone as (
    select w.job_id from {schema}.waiting w
     where w.job_id = any(:ids::bigint[]) and w.worker is not null
       and not exists (select from {schema}.worker k where k.id = w.worker and k.expires_at > statement_timestamp())
       for update skip locked
),
freed as (
    update {schema}.job j
       set lease = null,
           state = case when j.cancel_reason is null then j.state
                        when j.flags & 128 <> 0 then 'discarded' else 'cancelled' end,
           finished_at = case when j.cancel_reason is not null then statement_timestamp() end
     where j.id = any(array(select g.job_id from gone g)) and j.lease > 0 and j.state in ('suspended', 'available')
    returning j.queue, j.state
),
noted as (
    update {schema}.waiting w set worker = null
     where w.job_id in (select g.job_id from gone g)
)
select array(select distinct f.queue from freed f where f.state = 'available')
