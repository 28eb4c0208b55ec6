-- Which of the outcomes are written: now, or before with a reply that was lost, which has left the lease negated. As
-- this statement's snapshot has it: a job of the latter kind may be claimed again by this very statement.
(select json_agg(json_build_array(o.id, o.lease))
   from unnest(:ids::bigint[], :leases::bigint[]) o(id, lease)
  where exists (select from ended e where e.id = o.id and e.lease = o.lease)
     or exists (select from {schema}.job j where j.id = o.id and j.lease = -o.lease and o.lease > 0))
