-- Who has enqueued jobs that are independent of them.
insert into {schema}.member (job_id, child_id, kind, nursery, identity)
select o.parent, o.child, 'o', '', o.child::text
  from unnest(:parents::bigint[], :ids::bigint[]) o(parent, child)
    on conflict do nothing
