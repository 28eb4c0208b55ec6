-- Jobs by id; rows.py reads these columns. Large texts are left out. Not sorted: SQLite would copy each row, texts
-- included, to sort them.
SELECT json_group_array(json_array(
    jobrt_job.id, state, priority, attempt, max_attempts, schedule_at, created_at, lease, started_at, finished_at, version,
    CASE WHEN length(CAST(queue AS BLOB)) + length(CAST(name AS BLOB)) + ifnull(length(CAST(worker AS BLOB)), 0)
            + ifnull(length(CAST(cancel_reason AS BLOB)), 0) + ifnull(length(CAST(context AS BLOB)), 0)
            + length(CAST(tags AS BLOB)) + length(CAST(args AS BLOB)) + length(CAST(metadata AS BLOB)) <= 8192
        THEN json_array(queue, name, worker, cancel_reason, context, tags, args, metadata)
    END
))
FROM json_each(?) AS wanted CROSS JOIN jobrt_job ON jobrt_job.id = wanted.value;
