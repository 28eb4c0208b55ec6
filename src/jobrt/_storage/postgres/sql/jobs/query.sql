-- Whole records; details only if they are requested. A due scheduled job is shown as available, and a job that is held
-- but has not started as claimed. A job that waits for others is due when they end; this is shown as the last possible
-- time. A clean attempt has no record: the row holds its values until the job runs again (rerun.sql). Without details,
-- a large payload is cut (the last two columns).
select c.id, c.name, c.queue,
       case when c.state = 'scheduled' and c.schedule_at <= statement_timestamp() then 'available'
            when c.state = 'executing' and c.started_at is null then 'claimed'
            else c.state::text end,
       c.priority, c.attempt, c.max_attempts,
       case when {details} or octet_length(c.args) <= 8192 then c.args else left(c.args, 1000) end,
       case when {details} or octet_length(c.metadata) <= 8192 then c.metadata else left(c.metadata, 1000) end,
       c.tags, c.context,
       greatest(least(c.created_at, {last_time}), {first_time}) at time zone 'UTC',
       greatest(least(c.schedule_at, {last_time}), {first_time}) at time zone 'UTC',
       case when c.started_at is not null then greatest(least(c.started_at, {last_time}), {first_time}) end at time zone 'UTC',
       case when c.finished_at is not null then greatest(least(c.finished_at, {last_time}), {first_time}) end at time zone 'UTC',
       c.worker, c.cancel_reason,
       d.result, d.progress, d.saved,
       case when {details} and c.records > 0 then {attempt_records} end,
       {details} and c.state = 'completed' and c.lease < 0,
       not {details} and octet_length(c.args) > 8192, not {details} and coalesce(octet_length(c.metadata), 0) > 8192,
       c.version,
       (select m.job_id from {schema}.member m where m.child_id = c.id and m.kind <> 'd' limit 1),
       case when c.state in ('suspended', 'closing') or c.state = 'available' and c.lease > 0 then
           (select json_build_array(w.kind, w.name, w.since at time zone 'UTC', w.until at time zone 'UTC', w.worker)::text
              from {schema}.waiting w where w.job_id = c.id) end,
       case when c.flags & 64 <> 0 then
           (select json_build_array(l.deadline_at at time zone 'UTC', l.expires_at at time zone 'UTC')::text
              from {schema}.deadline l where l.job_id = c.id) end
  from {schema}.job c
  left join {schema}.detail d on {details} and d.job_id = c.id
 where {where}
