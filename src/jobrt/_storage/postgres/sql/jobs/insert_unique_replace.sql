-- Change the waiting job that a uniqueness rule found. A field that is null is unchanged. The state follows the due
-- time.
update {schema}.job j
   set priority = coalesce(:priority::integer, j.priority),
       max_attempts = case when :set_max_attempts::boolean then :max_attempts::integer else j.max_attempts end,
       args = coalesce(:args, j.args),
       version = case when :args is null then j.version else :version::smallint end,
       unfit = case when :args is null then j.unfit end,
       metadata = coalesce(:metadata, j.metadata),
       schedule_at = coalesce(n.due_at, j.schedule_at),
       state = case when n.due_at is null or j.state = 'retryable' then j.state
                    when n.due_at > statement_timestamp() then 'scheduled' else 'available' end
  from (select case when :set_schedule_at::boolean then
                    coalesce(:schedule_at::timestamptz,
                             statement_timestamp() + make_interval(secs => :delay::double precision)) end as due_at) n
 where j.id = :id::bigint and j.state in ('scheduled', 'available', 'retryable')
returning j.queue, j.schedule_at <= statement_timestamp()
