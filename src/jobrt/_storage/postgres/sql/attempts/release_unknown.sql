-- Release jobs that a claim with a lost reply has leased to a worker that does not know of them, as if never claimed.
with picked as (
    select j.id from {schema}.job j
     where j.queue = :queue and j.worker = :worker and j.state = 'executing'
       and not exists (select from unnest(:ids::bigint[], :leases::bigint[]) k(id, lease)
                        where k.id = j.id and k.lease = j.lease)
     order by j.id
       for update
)
update {schema}.job j
   set state = case when j.cancel_reason is null then 'available' else 'cancelled' end::{schema}.job_state,
       finished_at = case when j.cancel_reason is not null then statement_timestamp() end,
       attempt = greatest(j.attempt, 1) - 1, lease = null, started_at = null
 where j.id = any(array(select p.id from picked p))
returning j.id
