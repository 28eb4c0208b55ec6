-- The outcomes that are written: by this statement, or before, with a lost reply, which negated the lease. The
-- statement's snapshot decides about the latter: such a job may be claimed again by this very statement.
(select json_agg(json_build_array(o.id, o.lease))
   from unnest(:ids::bigint[], :leases::bigint[]) o(id, lease)
  where exists (select from ended e where e.id = o.id and e.lease = o.lease)
     or exists (select from {schema}.job j where j.id = o.id and j.lease = -o.lease and o.lease > 0))
