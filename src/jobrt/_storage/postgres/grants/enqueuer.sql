-- Enqueue, and find equal jobs for `unique=`. Not: payloads, results, the columns that only workers write.
grant usage on schema {schema} to {role};
grant select (name) on {schema}.migration to {role};
grant select (name, key) on {schema}.queue to {role};
grant usage on sequence {schema}.job_id to {role};
grant select (id, state, schedule_at, created_at, started_at, digest) on {schema}.job to {role};
grant insert (id, schedule_at, created_at, timeout, priority, max_attempts, state, digest,
              queue, name, args, metadata, tags, context, version, flags, limit_key) on {schema}.job to {role};
grant insert (job_id, deadline_at, expires_at) on {schema}.deadline to {role};
