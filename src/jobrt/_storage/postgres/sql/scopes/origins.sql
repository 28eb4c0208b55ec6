-- Who has enqueued jobs that are independent of them.
insert into {schema}.member (job_id, child_id, alive, kind, nursery, identity)
select o.parent, o.child, false, 'o', '', o.child::text
  from unnest(:parents::bigint[], :ids::bigint[]) o(parent, child)
    on conflict do nothing
