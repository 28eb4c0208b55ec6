-- The jobs of a claim, in order. The last seven values are null for nearly all of them: options, checkpoint and progress,
-- and attempt records. Times are in their binary form, which costs nothing here and shows infinite ones.
select c.id, c.lease, c.name, c.priority, c.attempt, c.max_attempts, c.args,
       timestamptz_send(c.created_at), timestamptz_send(c.schedule_at), c.timeout, c.metadata, c.tags, c.context,
       case when c.flags & 1 <> 0 then
           coalesce((select json_build_array(d.saved, d.progress)::text from {schema}.detail d where d.job_id = c.id),
                    '[null, null]') end,
       case when c.records > 0 then {attempt_records} end, c.version
  from claimed c
 order by c.priority desc, c.schedule_at, c.id
