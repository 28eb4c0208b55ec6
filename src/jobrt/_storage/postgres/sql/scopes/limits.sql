-- Deadlines of jobs that were just inserted. They count from when a job is first due.
insert into {schema}.deadline (job_id, deadline_at, expires_at)
select j.id,
       coalesce(o.deadline_at,
                greatest(j.schedule_at, statement_timestamp()) + make_interval(secs => o.deadline_in)),
       coalesce(o.expires_at,
                greatest(j.schedule_at, statement_timestamp()) + make_interval(secs => o.expires_in))
  from unnest(:ids::bigint[], :deadline_at::timestamptz[], :deadline_in::double precision[],
              :expires_at::timestamptz[], :expires_in::double precision[])
       o(id, deadline_at, deadline_in, expires_at, expires_in)
  join {schema}.job j on j.id = o.id
