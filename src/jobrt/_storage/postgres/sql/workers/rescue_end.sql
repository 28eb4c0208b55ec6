-- End these attempts as crashed, if the worker still holds the jobs. The lease becomes null, so later outcomes from
-- the dead worker are refused. A row without a start time, worker or lease is damaged, but is rescued as well.
with picked as (
    select j.id, j.lease, j.attempt, j.started_at, j.worker from {schema}.job j
     where j.id = any(:ids::bigint[]) and j.state = 'executing'
       and not exists (select from {schema}.worker w where w.id = j.worker and w.expires_at > statement_timestamp())
     order by j.id
       for update of j skip locked
),
ended as (
    update {schema}.job j
       set state = case when j.flags & 128 <> 0 then 'discarded' when j.cancel_reason is not null then 'cancelled'
                        when j.attempt >= j.max_attempts then 'discarded' else 'retryable' end::{schema}.job_state,
           finished_at = case when j.cancel_reason is not null or j.attempt >= j.max_attempts
                              then statement_timestamp() end,
           lease = null, records = least(j.records, 2147483646) + 1
     where j.id = any(array(select p.id from picked p))
    returning j.id, j.name, j.queue, j.worker,
              case when {closes} then 'closing' else j.state::text end as state
),
recorded as (
    insert into {schema}.attempt (job_id, lease, number, "end", started_at, finished_at, worker, message)
    select p.id, coalesce(p.lease, 0), p.attempt, 'crashed', coalesce(p.started_at, statement_timestamp()),
           statement_timestamp(), coalesce(p.worker, ''), :message
      from picked p where p.id in (select e.id from ended e)
        on conflict (job_id, lease) do nothing
)
select e.id, e.name, e.queue, coalesce(e.worker, ''), e.state from ended e order by e.id
