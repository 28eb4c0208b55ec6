-- Note jobs that were just inserted, or found, as members, in order.
with given as materialized (
    select c.child, c.kind, c.identity
      from unnest(:children::bigint[], :kinds::text[], :identities::text[]) with ordinality c(child, kind, identity, place)
     order by c.place
),
living as (
    insert into {schema}.living (child_id, job_id, nursery)
    select g.child, :id::bigint, :name from given g where g.kind = 'c'
)
insert into {schema}.member (job_id, child_id, kind, nursery, identity, attempt)
select :id::bigint, g.child, g.kind::"char", :name, g.identity,
       (select p.attempt from {schema}.job p where p.id = :id::bigint)
  from given g
