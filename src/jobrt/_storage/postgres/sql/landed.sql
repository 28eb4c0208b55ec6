-- Of outcomes that did not land now, those that did before: a lost reply to a commit left the lease negated.
select j.id, -j.lease
  from unnest(:ids::bigint[], :leases::bigint[]) o(id, lease)
  join {schema}.job j on j.id = o.id and j.lease = -o.lease
 where o.lease > 0
