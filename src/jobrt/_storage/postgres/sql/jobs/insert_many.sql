-- Several jobs. Ids are assigned in input order, so ordering by id returns them in input order.
with given as materialized (
    select nextval('{literal}.job_id') as id,
           coalesce(o.schedule_at, statement_timestamp() + make_interval(secs => o.delay)) as due_at, o.*
      from rows from (
               unnest(:schedule_at::timestamptz[]), unnest(:delay::double precision[]),
               unnest(:timeout::double precision[]), unnest(:priority::integer[]), unnest(:max_attempts::integer[]),
               unnest(:digest::uuid[]), unnest(:queue::text[]), unnest(:name::text[]), unnest(:args::text[]),
               unnest(:metadata::text[]), unnest(:tags::text[]), unnest(:context::text[]),
               unnest(:version::smallint[]), unnest(:limit_key::text[]), unnest(:flags::smallint[])
           ) o(schedule_at, delay, timeout, priority, max_attempts, digest, queue, name, args, metadata, tags, context,
             version, limit_key, flags)
),
added as (
    insert into {schema}.job
           (id, schedule_at, created_at, timeout, priority, max_attempts, state, digest,
            queue, name, args, metadata, tags, context, version, limit_key, flags)
    select g.id, g.due_at, statement_timestamp(), g.timeout, g.priority, g.max_attempts,
           (case when g.due_at > statement_timestamp() then 'scheduled' else 'available' end)::{schema}.job_state,
           g.digest, g.queue, g.name, g.args, g.metadata, g.tags::text[], g.context, g.version,
           g.limit_key, g.flags
      from given g
    returning id
)
select a.id from added a order by a.id
