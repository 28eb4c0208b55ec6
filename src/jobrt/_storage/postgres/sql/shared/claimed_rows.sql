-- The jobs of a claim, in order, with checkpoint, progress and attempt records if they have any.
select c.id, c.lease, c.name, c.priority, c.attempt, c.max_attempts, c.timeout, c.args, c.metadata, c.tags,
       c.context, greatest(least(c.created_at, {last_time}), {first_time}) at time zone 'UTC',
       greatest(least(c.schedule_at, {last_time}), {first_time}) at time zone 'UTC',
       case when c.flags & 1 <> 0 then
           coalesce((select json_build_array(d.saved, d.progress)::text from {schema}.detail d where d.job_id = c.id),
                    '[null, null]') end,
       case when c.records > 0 then {attempt_records} end, c.version
  from claimed c
 order by c.priority desc, c.schedule_at, c.id
