-- Before jobs are deleted, add their counts to the stored ones; see stats.sql.
-- total and CAST: sum raises an error beyond the largest integer, and a column refuses the REAL that + gives.
INSERT INTO jobrt_rollup (hour, queue, name, kind, bucket, number, run_time)
SELECT hour, queue, name, kind, bucket, count(*), CAST(total(run_time) AS INTEGER) FROM (
    SELECT created_at - created_at % 3600000000 AS hour, queue, name, 'enqueued' AS kind, -1 AS bucket, 0 AS run_time
    FROM jobrt_job WHERE id IN (SELECT value FROM json_each(:ids))
    UNION ALL
    SELECT {counted_end}
    FROM jobrt_job WHERE id IN (SELECT value FROM json_each(:ids)) AND state BETWEEN 4 AND 6
    UNION ALL
    SELECT attempt.finished_at - attempt.finished_at % 3600000000, queue, name, 'failed', -1, 0
    FROM jobrt_attempt AS attempt JOIN jobrt_job ON jobrt_job.id = attempt.job_id
    WHERE attempt.job_id IN (SELECT value FROM json_each(:ids)) AND attempt."end" IN ('failed', 'timed_out', 'crashed', 'undecodable')
) WHERE true GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (hour, queue, name, kind, bucket) DO UPDATE SET
    number = CAST(number + excluded.number AS INTEGER), run_time = CAST(run_time + excluded.run_time AS INTEGER);
