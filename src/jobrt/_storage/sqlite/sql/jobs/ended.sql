-- What ended in a range of time, by slots of :step microseconds: slot, queue, name, kind, class of run time, class of
-- wait, number, run time, wait, and whether it is of existing jobs. The classes are those of counted_end.sql.
-- The index on state, name and time gives the range, with a skip scan over the names. Each part stops behind :limit.
-- total and CAST: sum raises an error beyond the largest integer, and a damaged row may give a REAL.
WITH RECURSIVE
kinds (code, called) AS (
    SELECT final.value, (SELECT min(job.name) FROM jobrt_job AS job WHERE job.state > 3 AND job.state = final.value)
    FROM json_each('[4, 5, 6]') AS final
    UNION ALL
    SELECT code, (
        SELECT min(job.name) FROM jobrt_job AS job WHERE job.state > 3 AND job.state = code AND job.name > called
    ) FROM kinds WHERE called IS NOT NULL
)
SELECT json_group_array(json_array(slot, queue, name, kind, ran, waited, number, run_time, wait, live)) FROM (
SELECT ended - ended % :step AS slot, queue, name, kind,
CASE
    WHEN kind <> 'completed' THEN -1
    WHEN run_time < 1000 THEN 0
    WHEN run_time < 4000 THEN 1
    WHEN run_time < 16000 THEN 2
    WHEN run_time < 64000 THEN 3
    WHEN run_time < 256000 THEN 4
    WHEN run_time < 1024000 THEN 5
    WHEN run_time < 4096000 THEN 6
    WHEN run_time < 16384000 THEN 7
    WHEN run_time < 65536000 THEN 8
    WHEN run_time < 262144000 THEN 9
    WHEN run_time < 1048576000 THEN 10
    ELSE 11
END AS ran,
CASE
    WHEN kind <> 'completed' THEN -1
    WHEN wait < 1000 THEN 0
    WHEN wait < 4000 THEN 1
    WHEN wait < 16000 THEN 2
    WHEN wait < 64000 THEN 3
    WHEN wait < 256000 THEN 4
    WHEN wait < 1024000 THEN 5
    WHEN wait < 4096000 THEN 6
    WHEN wait < 16384000 THEN 7
    WHEN wait < 65536000 THEN 8
    WHEN wait < 262144000 THEN 9
    WHEN wait < 1048576000 THEN 10
    ELSE 11
END AS waited,
count(*) AS number, CAST(total(run_time) AS INTEGER) AS run_time, CAST(total(wait) AS INTEGER) AS wait, 1 AS live
FROM (
    SELECT * FROM (
        SELECT finished_at AS ended, queue, name,
        CASE state WHEN 4 THEN 'completed' WHEN 5 THEN 'cancelled' ELSE 'dead' END AS kind,
        CASE WHEN state = 4 THEN finished_at - started_at END AS run_time,
        CASE WHEN state = 4 THEN max(started_at - schedule_at, 0) END AS wait
        FROM kinds CROSS JOIN jobrt_job
        ON state > 3 AND state = code AND name = called AND finished_at >= :since AND finished_at < :until
        LIMIT :limit
    )
    UNION ALL
    SELECT * FROM (
        SELECT attempt.finished_at, queue, name, 'failed', NULL, NULL
        FROM jobrt_attempt AS attempt CROSS JOIN jobrt_job ON jobrt_job.id = attempt.job_id
        WHERE attempt.finished_at >= :since AND attempt.finished_at < :until
        AND attempt."end" IN ('failed', 'timed_out', 'crashed', 'undecodable')
        LIMIT :limit
    )
) GROUP BY 1, 2, 3, 4, 5, 6
UNION ALL
SELECT hour, queue, name, kind, bucket, -1, number, run_time, 0, 0
FROM jobrt_rollup WHERE :deleted AND hour >= :since AND hour < :until
);
