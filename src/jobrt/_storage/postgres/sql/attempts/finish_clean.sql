-- The outcomes of a batch in which every attempt ended clean and left no result: only hot rows are written.
--
-- Rows are addressed by primary key and lease alone. With the state in the condition the planner would take the
-- partial index on executing jobs, whose dead entries pile up while another session holds an old snapshot.
--
-- If another job waits for one of these, or is its parent, the trigger `settle_ended` gets the ids of the whole batch.
-- It runs once, after all rows are written (decisions/005). To set them for each such job would copy them as often.
ended as (
    update {schema}.job j
       set state = 'completed', lease = -j.lease, attempt = j.attempt + (j.state <> 'executing')::integer, finished_at = statement_timestamp(), cancel_reason = null,
           started_at = {began_at}
      from unnest(:ids::bigint[], :leases::bigint[], :began::bigint[]) o(id, lease, began)
     where j.id = o.id and j.lease = o.lease and o.lease > 0
    returning j.id, o.lease, null::timestamptz as due_at, j.queue,
              case when j.flags & 12 <> 0 and coalesce(current_setting('jobrt.ended', true), '') = ''
                   then set_config('jobrt.ended', :ids::text, true) end as batch_ids
)
