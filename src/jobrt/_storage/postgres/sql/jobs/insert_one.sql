-- One job and its wake-up in a single round trip.
insert into {schema}.job
       (schedule_at, created_at, timeout, priority, max_attempts, state, digest,
        queue, name, args, metadata, tags, context, version, limit_key)
select g.schedule_at, statement_timestamp(), :timeout::double precision, :priority::integer,
       :max_attempts::integer,
       (case when g.schedule_at > statement_timestamp() then 'scheduled' else 'available' end)::{schema}.job_state,
       :digest::uuid, :queue, :name, :args, :metadata, :tags::text[], :context, :version::smallint, :limit_key
  from (select coalesce(:schedule_at::timestamptz,
                        statement_timestamp() + make_interval(secs => :delay::double precision)) as schedule_at) g
returning id, case when :channel::text is not null then pg_notify(:channel, 'j:' || :queue) end
