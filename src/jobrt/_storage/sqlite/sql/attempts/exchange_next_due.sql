-- The first job that is not yet due, for each queue that has one. For each queue and priority it is the first index
-- entry after now; a skip scan finds the priorities. A job that waits for its children has the largest due time, for
-- which no worker must wake up.
WITH RECURSIVE
lane (queue, priority) AS (
    SELECT wanted.value, (
        SELECT job.priority FROM jobrt_job AS job INDEXED BY jobrt_job_waiting
        WHERE job.queue = wanted.value AND job.state < 3 ORDER BY job.priority DESC LIMIT 1
    ) FROM json_each(:queues) AS wanted
    UNION ALL
    SELECT lane.queue, (
        SELECT job.priority FROM jobrt_job AS job INDEXED BY jobrt_job_waiting
        WHERE job.queue = lane.queue AND job.state < 3 AND job.priority < lane.priority
        ORDER BY job.priority DESC LIMIT 1
    ) FROM lane WHERE lane.priority IS NOT NULL
),
first (queue, schedule_at) AS (
    SELECT lane.queue, (
        SELECT job.schedule_at FROM jobrt_job AS job INDEXED BY jobrt_job_waiting
        WHERE job.queue = lane.queue AND job.state < 3 AND job.priority = lane.priority
            AND job.schedule_at > :now AND job.schedule_at < :far
        ORDER BY job.schedule_at LIMIT 1
    ) FROM lane WHERE lane.priority IS NOT NULL
)
SELECT json_group_object(queue, schedule_at) FROM (
    SELECT queue, min(schedule_at) AS schedule_at FROM first WHERE schedule_at IS NOT NULL GROUP BY queue
);
