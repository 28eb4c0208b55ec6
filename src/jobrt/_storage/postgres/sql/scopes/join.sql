-- Note jobs that were just inserted, or found, as members, in order.
insert into {schema}.member (job_id, child_id, alive, kind, nursery, identity)
select :id::bigint, c.child, c.kind = 'c', c.kind::"char", :name, c.identity
  from unnest(:children::bigint[], :kinds::text[], :identities::text[]) with ordinality c(child, kind, identity, place)
 order by c.place
