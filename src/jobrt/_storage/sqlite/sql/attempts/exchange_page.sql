-- Due jobs of one queue and priority, in order, after a position. Queue and priority are fixed, and due time and id
-- are a range of the index, so that future jobs are not scanned. The index contains the name, so that jobs that
-- this worker does not know are skipped without reading their rows: as many as :look, with those that are returned. One
-- JSON text: see transaction.py. Payloads that the worker's classes are too old for are passed by; nearly all rows have
-- neither a version nor an unfit shape. The columns are named because SQLite would read all those of the row for a star.
SELECT json_group_array({claim_row})
FROM (
    SELECT {claim_columns} FROM (
        SELECT id AS due_id, name AS due_name FROM jobrt_job INDEXED BY jobrt_job_waiting
        WHERE queue = :queue AND state < 3 AND priority = :priority
            AND schedule_at <= :now AND (schedule_at, id) > (:after_at, :after_id)
        ORDER BY schedule_at, id
        LIMIT :look
    ) CROSS JOIN jobrt_job ON jobrt_job.id = due_id
    WHERE due_name IN (SELECT value FROM json_each(:names)) AND {fits}
        AND {free}
    LIMIT :limit
);
