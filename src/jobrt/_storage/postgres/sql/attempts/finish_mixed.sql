-- The outcomes of any batch: hot rows and `batch_ids` as in finish_clean.sql, and inserts into other tables where
-- needed.
--
-- States are sent as texts: a prepared statement whose parameter has a type of the schema fails when the schema is
-- restored, because that type is another one then.
--
-- A claimed job that its worker has parked stays its own when it goes back unstarted: the worker has its coroutine.
--
-- A cancel request turns every outcome that would run the job again into cancelled. `delay` is null if the due time
-- is unchanged.
ended as (
    update {schema}.job j
       set state = case when o.final or j.cancel_reason is null then o.state
                        when j.flags & 128 <> 0 then 'discarded' else 'cancelled' end::{schema}.job_state,
           lease = case when o.parked_in = j.worker and j.cancel_reason is null then j.lease else -j.lease end,
           -- A parked job has given its attempt back.
           attempt = greatest(j.attempt + (j.state <> 'executing')::integer, 1) - o.unspent,
           records = least(j.records, 2147483646) + (o.ending is not null)::integer,
           schedule_at = case when o.final or j.cancel_reason is not null then j.schedule_at
                              when o.waits then 'infinity'
                              when o.delay is null then j.schedule_at
                              else statement_timestamp() + make_interval(secs => o.delay) end,
           finished_at = case when o.final or j.cancel_reason is not null then statement_timestamp() end,
           started_at = case when o.parked_in = j.worker and j.cancel_reason is null
                             then coalesce(j.started_at, statement_timestamp())
                             when not o.unstarted then {began_at} end,
           unfit = o.unfit,
           cancel_reason = case when o.state = 'cancelled' then coalesce(o.message, j.cancel_reason)
                                when not o.final then j.cancel_reason end
      from (select o.*, case when o.unstarted then
                       (select w.worker from {schema}.waiting w where w.job_id = o.id) end as parked_in
              from unnest(:ids::bigint[], :leases::bigint[], :states::text[], :finals::boolean[],
                          :unspent::integer[], :waits::boolean[], :delays::double precision[], :endings::text[],
                          :error_types::text[], :messages::text[], :tracebacks::text[], :results::text[],
                          :began::bigint[], :unstarted::boolean[], :unfit::bigint[], :parked::boolean[])
                   o(id, lease, state, final, unspent, waits, delay, ending, error_type, message, traceback,
                     result, began, unstarted, unfit, was_parked)) o
     where j.id = o.id and j.lease = o.lease and o.lease > 0
    returning j.id, case when j.finished_at is null then j.schedule_at end as due_at, j.queue,
              o.lease, j.lease > 0 as stays_parked, o.was_parked, j.attempt + o.unspent as number, o.ending, j.started_at, j.worker,
              o.error_type, o.message, o.traceback, o.result, j.records,
              case when j.flags & 12 <> 0 and coalesce(current_setting('jobrt.ended', true), '') = ''
                   then set_config('jobrt.ended', :ids::text, true) end as batch_ids
),
recorded as (
    insert into {schema}.attempt
           (job_id, lease, number, "end", started_at, finished_at, worker, error_type, message, traceback)
    select e.id, e.lease, e.number, e.ending, coalesce(e.started_at, statement_timestamp()), statement_timestamp(),
           coalesce(e.worker, ''), e.error_type, e.message, e.traceback
      from ended e where e.ending is not null
        on conflict (job_id, lease) do nothing
),
-- The newest hundred records are kept; this statement does not see the one it adds.
trimmed as (
    delete from {schema}.attempt a
     using ended e
     where e.records > 100 and e.ending is not null and a.job_id = e.id
       and a.lease <= (select b.lease from {schema}.attempt b where b.job_id = e.id
                        order by b.lease desc offset 99 limit 1)
),
kept as (
    insert into {schema}.detail (job_id, result)
    select e.id, e.result from ended e where e.result is not null
        on conflict (job_id) do update set result = excluded.result
),
-- Whoever claims one of these next has not parked it. One that was parked, and is over, is not looked at any more.
unparked as (
    update {schema}.waiting w set worker = null
     where w.job_id = any(array(select e.id from ended e
                                 where e.due_at is not null and not e.stays_parked or e.was_parked))
       and w.worker is not null
)
