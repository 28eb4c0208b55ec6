-- Oldest first, because leases grow. Only texts that are longer than those of jobrt are cut, as substr ends at a NUL.
SELECT json_group_array(json_array(
    job_id, number, "end", started_at, finished_at, worker, error_type,
    CASE WHEN length(CAST(message AS BLOB)) > 44000 THEN substr(message, 1, 11000) ELSE message END,
    CASE WHEN length(CAST(traceback AS BLOB)) > 204000 THEN substr(traceback, -51000) ELSE traceback END,
    lease
))
FROM (
    SELECT * FROM jobrt_attempt WHERE job_id IN (SELECT value FROM json_each(?)) ORDER BY job_id, lease
);
