-- What claim_row.sql reads, in the order of the table's columns.
jobrt_job.id, name, priority, attempt, max_attempts, schedule_at, created_at, started_at, extra, timeout, context, tags,
args, metadata, version
