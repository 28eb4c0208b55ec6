-- Oldest first, because leases grow.
SELECT json_group_array(json_array(
    job_id, number, "end", started_at, finished_at, worker, error_type, message, traceback, lease
))
FROM (
    SELECT * FROM jobrt_attempt WHERE job_id IN (SELECT value FROM json_each(?)) ORDER BY job_id, lease
);
