-- The columns of a claimed job that claimed_rows.sql reads.
j.id, j.lease, j.name, j.priority, j.attempt, j.max_attempts, j.args, j.created_at, j.schedule_at, j.timeout, j.metadata,
j.tags, j.context, j.version, j.flags, j.records
