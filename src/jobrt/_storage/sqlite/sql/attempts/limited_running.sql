-- How many jobs of a queue run, and how many of them in other workers. A skip scan over the workers reads no jobs of other queues.
WITH RECURSIVE holder (worker) AS (
    SELECT * FROM (SELECT worker FROM jobrt_job INDEXED BY jobrt_job_executing
                   WHERE state = 3 AND worker IS NOT NULL ORDER BY worker LIMIT 1)
    UNION ALL
    SELECT (SELECT worker FROM jobrt_job INDEXED BY jobrt_job_executing
            WHERE state = 3 AND worker > holder.worker ORDER BY worker LIMIT 1)
    FROM holder WHERE holder.worker IS NOT NULL
)
SELECT ifnull(sum(number), 0), ifnull(sum(number) FILTER (WHERE worker IS NOT :worker), 0) FROM (
    SELECT (SELECT count(*) FROM jobrt_job INDEXED BY jobrt_job_executing
            WHERE state = 3 AND worker = holder.worker AND queue = :queue) AS number, worker
    FROM holder WHERE holder.worker IS NOT NULL
    UNION ALL
    SELECT count(*), NULL FROM jobrt_job INDEXED BY jobrt_job_executing
    WHERE state = 3 AND worker IS NULL AND queue = :queue
);
