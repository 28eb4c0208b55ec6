-- Whole records; details only if they are requested. A due scheduled job is shown as available, and a job that is held
-- but has not started as claimed. A job that waits for others is due when they end; this is shown as the last possible
-- time. A clean attempt has no record: the row holds its values until the job runs again (rerun.sql).
select c.id, c.name, c.queue,
       case when c.state = 'scheduled' and c.schedule_at <= statement_timestamp() then 'available'
            when c.state = 'executing' and c.started_at is null then 'claimed'
            else c.state::text end,
       c.priority, c.attempt, c.max_attempts, c.args, c.metadata, c.tags, c.context,
       c.created_at at time zone 'UTC',
       least(c.schedule_at, '9999-12-31 23:59:59.999999+00') at time zone 'UTC',
       c.started_at at time zone 'UTC', c.finished_at at time zone 'UTC', c.worker, c.cancel_reason,
       d.result, d.progress, d.saved,
       case when {details} and c.records > 0 then {attempt_records} end,
       {details} and c.state = 'completed' and c.lease < 0
  from {schema}.job c
  left join {schema}.detail d on {details} and d.job_id = c.id
 where {where}
