-- Add new children that differ in their payloads only; see the function.
select c.problem, c.ids
  from {schema}.enqueue_children(
       :id::bigint, :lease::bigint, :nursery, :args::text[], :identities::text[], :name, :queue, :priority::integer,
       :max_attempts::integer, :schedule_at::timestamptz, :version::smallint, :context, :channel) c
