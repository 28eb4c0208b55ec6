-- The priorities of the waiting jobs of each queue: [queue, priority]. A skip scan: a probe of the index for each.
WITH RECURSIVE queues (called) AS (
    SELECT value FROM json_each(:queues)
    UNION ALL
    SELECT min(job.queue) FROM jobrt_job AS job WHERE :all AND job.state < 3
    UNION ALL
    SELECT (SELECT min(job.queue) FROM jobrt_job AS job WHERE job.state < 3 AND job.queue > called)
    FROM queues WHERE :all AND called IS NOT NULL
    LIMIT :most
),
kinds (called, height) AS (
    SELECT called, (SELECT max(job.priority) FROM jobrt_job AS job WHERE job.state < 3 AND job.queue = called)
    FROM queues WHERE called IS NOT NULL
    UNION ALL
    SELECT called, (
        SELECT max(job.priority) FROM jobrt_job AS job
        WHERE job.state < 3 AND job.queue = called AND job.priority < height
    ) FROM kinds WHERE height IS NOT NULL
    LIMIT :most
)
SELECT json_group_array(json_array(called, height)) FROM kinds WHERE height IS NOT NULL;
