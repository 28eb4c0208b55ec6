-- Some of the due jobs of a queue, with what a limit may count them by. One JSON text: see transaction.py. Large texts
-- are left out.
SELECT json_group_array(json_array(name, args, metadata)) FROM (
    SELECT name, CASE WHEN :payloads AND length(CAST(args AS BLOB)) <= 8192 THEN args END AS args,
        CASE WHEN :payloads AND length(CAST(metadata AS BLOB)) <= 8192 THEN metadata END AS metadata
    FROM jobrt_job INDEXED BY jobrt_job_waiting
    WHERE queue = :queue AND state < 3 AND schedule_at <= :now
    LIMIT :limit
);
