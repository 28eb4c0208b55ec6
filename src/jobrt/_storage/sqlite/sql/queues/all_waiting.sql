-- Waiting jobs by queue and priority, found by skip scan. They are counted in index order, due and future ones
-- separately, up to the limit. A due scheduled job counts as available. The oldest is the one with the earliest due
-- time, in any waiting state.
WITH RECURSIVE
known (queue) AS (
    SELECT * FROM (
        SELECT queue FROM jobrt_job INDEXED BY jobrt_job_waiting WHERE state < 3 ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM jobrt_job INDEXED BY jobrt_job_waiting
            WHERE state < 3 AND queue > known.queue ORDER BY queue LIMIT 1)
    FROM known WHERE known.queue IS NOT NULL
),
lane (queue, priority) AS (
    SELECT queue, (SELECT priority FROM jobrt_job AS j INDEXED BY jobrt_job_waiting
                   WHERE state < 3 AND j.queue = known.queue ORDER BY priority DESC LIMIT 1)
    FROM known WHERE queue IS NOT NULL
    UNION ALL
    SELECT queue, (SELECT priority FROM jobrt_job AS j INDEXED BY jobrt_job_waiting
                   WHERE state < 3 AND j.queue = lane.queue AND j.priority < lane.priority
                   ORDER BY priority DESC LIMIT 1)
    FROM lane WHERE priority IS NOT NULL
)
SELECT json_group_array(json_array(queue, json(due), json(later))) FROM (
    SELECT
        queue,
        (SELECT json_array(count(*) FILTER (WHERE state < 2), count(*) FILTER (WHERE state = 2), min(schedule_at),
                           json_group_array(DISTINCT name))
         FROM (SELECT state, schedule_at, name FROM jobrt_job AS j INDEXED BY jobrt_job_waiting
               WHERE state < 3 AND j.queue = lane.queue AND j.priority = lane.priority AND j.schedule_at <= :now
               ORDER BY schedule_at LIMIT :limit)) AS due,
        (SELECT json_array(count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1),
                           count(*) FILTER (WHERE state = 2))
         FROM (SELECT state FROM jobrt_job AS j INDEXED BY jobrt_job_waiting
               WHERE state < 3 AND j.queue = lane.queue AND j.priority = lane.priority AND j.schedule_at > :now
               ORDER BY schedule_at LIMIT :limit)) AS later
    FROM lane WHERE priority IS NOT NULL
);
