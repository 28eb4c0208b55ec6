-- Counts of existing jobs and rolled-up ones, in the same columns: hour, queue, name, kind, class in the histogram.
-- Jobs enqueued since are a range of ids (:first). Final jobs are found by the index on state, name and time, with a
-- skip scan over the names. Hours are whole, so that both kinds of rows cover the same time.
-- total and CAST: sum raises an error beyond the largest integer, and a column refuses the REAL that + gives.
WITH RECURSIVE
kinds (code, called) AS (
    SELECT final.value, (SELECT min(job.name) FROM jobrt_job AS job WHERE job.state > 3 AND job.state = final.value)
    FROM json_each('[4, 5, 6]') AS final
    UNION ALL
    SELECT code, (
        SELECT min(job.name) FROM jobrt_job AS job WHERE job.state > 3 AND job.state = code AND job.name > called
    ) FROM kinds WHERE called IS NOT NULL
)
SELECT json_group_array(json_array(hour, queue, name, kind, bucket, number, run_time)) FROM (
SELECT hour, queue, name, kind, bucket, count(*) AS number, CAST(total(run_time) AS INTEGER) AS run_time FROM (
    SELECT created_at - created_at % 3600000000 AS hour, queue, name, 'enqueued' AS kind, -1 AS bucket, 0 AS run_time
    FROM jobrt_job WHERE id >= :first AND created_at >= :since
    UNION ALL
    SELECT {counted_end}
    FROM kinds CROSS JOIN jobrt_job ON state > 3 AND state = code AND name = called AND finished_at >= :since
    UNION ALL
    SELECT attempt.finished_at - attempt.finished_at % 3600000000, queue, name, 'failed', -1, 0
    FROM jobrt_attempt AS attempt CROSS JOIN jobrt_job ON jobrt_job.id = attempt.job_id
    WHERE attempt.finished_at >= :since AND attempt."end" IN ('failed', 'timed_out', 'crashed', 'undecodable')
) GROUP BY 1, 2, 3, 4, 5
UNION ALL
SELECT hour, queue, name, kind, bucket, number, run_time FROM jobrt_rollup WHERE hour >= :since
);
