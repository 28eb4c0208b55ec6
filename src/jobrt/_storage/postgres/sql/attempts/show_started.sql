-- Starts of jobs that were claimed ahead. The lease is the fence; a start that is known stays. Rows are locked in the
-- order of ids, as by all who write several.
update {schema}.job j
   set started_at = least(timestamptz 'epoch' + o.began * interval '1 microsecond', statement_timestamp())
  from unnest(:ids::bigint[], :leases::bigint[], :began::bigint[]) o(id, lease, began)
 where j.id = o.id and j.lease = o.lease and o.lease > 0 and j.started_at is null
