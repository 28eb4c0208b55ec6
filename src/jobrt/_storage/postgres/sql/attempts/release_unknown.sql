-- Release jobs that are leased to a worker that does not know of them, as if never claimed. One that this worker has parked stays its own: its coroutine is there.
with picked as (
    select j.id, exists (select from {schema}.waiting w where w.job_id = j.id and w.worker = :worker) as parked
      from unnest(:ids::bigint[], :leases::bigint[]) k(id, lease)
      join {schema}.job j on j.id = k.id
     where j.worker = :worker and j.state = 'executing' and j.lease is not distinct from k.lease
     order by j.id
       for update of j
)
update {schema}.job j
   set state = case when j.cancel_reason is null or p.parked then 'available' else 'cancelled' end::{schema}.job_state,
       finished_at = case when j.cancel_reason is not null and not p.parked then statement_timestamp() end,
       attempt = greatest(j.attempt, 1) - 1,
       lease = case when p.parked then j.lease end,
       started_at = case when p.parked then coalesce(j.started_at, statement_timestamp()) end
  from picked p
 where j.id = p.id
returning j.id
