-- Before jobs are deleted, add what they count for to what is kept of their like; see stats.sql.
INSERT INTO jobrt_rollup (hour, queue, name, kind, bucket, number, run_time)
SELECT hour, queue, name, kind, bucket, count(*), sum(run_time) FROM (
    SELECT created_at - created_at % 3600000000 AS hour, queue, name, 'enqueued' AS kind, -1 AS bucket, 0 AS run_time
    FROM jobrt_job WHERE id IN (SELECT value FROM json_each(:ids))
    UNION ALL
    SELECT
        finished_at - finished_at % 3600000000, queue, name,
        CASE state WHEN 4 THEN 'completed' WHEN 5 THEN 'cancelled' ELSE 'dead' END,
        CASE
            WHEN state <> 4 THEN -1
            WHEN finished_at - started_at < 1000 THEN 0
            WHEN finished_at - started_at < 4000 THEN 1
            WHEN finished_at - started_at < 16000 THEN 2
            WHEN finished_at - started_at < 64000 THEN 3
            WHEN finished_at - started_at < 256000 THEN 4
            WHEN finished_at - started_at < 1024000 THEN 5
            WHEN finished_at - started_at < 4096000 THEN 6
            WHEN finished_at - started_at < 16384000 THEN 7
            WHEN finished_at - started_at < 65536000 THEN 8
            WHEN finished_at - started_at < 262144000 THEN 9
            WHEN finished_at - started_at < 1048576000 THEN 10
            ELSE 11
        END,
        CASE WHEN state = 4 THEN finished_at - started_at ELSE 0 END
    FROM jobrt_job WHERE id IN (SELECT value FROM json_each(:ids)) AND state > 3
    UNION ALL
    SELECT attempt.finished_at - attempt.finished_at % 3600000000, queue, name, 'failed', -1, 0
    FROM jobrt_attempt AS attempt JOIN jobrt_job ON jobrt_job.id = attempt.job_id
    WHERE attempt.job_id IN (SELECT value FROM json_each(:ids)) AND attempt."end" IN ('failed', 'timed_out', 'crashed', 'undecodable')
) WHERE true GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (hour, queue, name, kind, bucket) DO UPDATE SET
    number = number + excluded.number, run_time = run_time + excluded.run_time;
