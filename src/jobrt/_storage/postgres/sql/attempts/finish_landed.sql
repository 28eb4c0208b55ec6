-- Of outcomes that were not written by a statement, and not in its snapshot, those that are written now. The first
-- sending, whose reply was lost, may have been committed while the second one waited for it.
select j.id, -j.lease
  from unnest(:ids::bigint[], :leases::bigint[]) o(id, lease)
  join {schema}.job j on j.id = o.id and j.lease = -o.lease
 where o.lease > 0
