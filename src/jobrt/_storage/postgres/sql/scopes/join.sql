-- Note jobs that were just inserted, or found, as members, in order.
insert into {schema}.member (job_id, child_id, alive, kind, nursery, identity, attempt)
select :id::bigint, c.child, c.kind = 'c', c.kind::"char", :name, c.identity,
       (select p.attempt from {schema}.job p where p.id = :id::bigint)
  from unnest(:children::bigint[], :kinds::text[], :identities::text[]) with ordinality c(child, kind, identity, place)
 order by c.place
