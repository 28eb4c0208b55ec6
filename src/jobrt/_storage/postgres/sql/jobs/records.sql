-- The jobs of these that completed at once and are small, as most children are. Of others `query.sql` reads the records:
-- its cases and bounds for odd values cost more than the search.
select c.id, c.name, c.queue, c.priority, c.attempt, c.max_attempts, c.args, c.metadata, c.tags, c.context,
       timestamptz_send(c.created_at), timestamptz_send(c.schedule_at), timestamptz_send(c.started_at),
       timestamptz_send(c.finished_at), c.worker, d.result, d.progress, d.saved, c.version,
       coalesce(:parent::bigint,
                (select m.job_id from {schema}.member m where m.child_id = c.id and m.kind <> 'd' limit 1))
  from {schema}.job c
  left join {schema}.detail d on d.job_id = c.id
 where c.id = any(:ids::bigint[]) and c.state = 'completed' and c.lease < 0 and c.records = 0 and c.flags & 64 = 0
   and c.cancel_reason is null
   and octet_length(c.args) + coalesce(octet_length(c.metadata), 0) + coalesce(octet_length(d.result), 0)
       + coalesce(octet_length(d.progress), 0) + coalesce(octet_length(d.saved), 0) <= 8192
