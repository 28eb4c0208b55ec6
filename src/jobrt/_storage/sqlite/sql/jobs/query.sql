-- Jobs by id, in the order of the given ids; rows.py reads these columns.
SELECT json_group_array(json_array(
    id, state, queue, name, priority, attempt, max_attempts, schedule_at, created_at, lease, worker, started_at,
    finished_at, cancel_reason, context, tags, args, metadata
))
FROM (
    SELECT jobrt_job.* FROM json_each(?) AS wanted
    CROSS JOIN jobrt_job ON jobrt_job.id = wanted.value
    ORDER BY wanted.key
);
