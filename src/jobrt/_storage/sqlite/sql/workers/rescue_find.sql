-- Running jobs whose worker is dead or gone, by id, after a given one. The index contains only running jobs.
SELECT json_group_array(json_array(
    id, name, queue, worker, lease, attempt, max_attempts, schedule_at, started_at, cancel_reason
))
FROM (
    SELECT * FROM jobrt_job INDEXED BY jobrt_job_executing
    WHERE state = 3 AND id > :after AND id NOT IN (SELECT value FROM json_each(:but))
        AND (worker IS NULL OR worker NOT IN (SELECT id FROM jobrt_worker WHERE expires_at > :now))
    ORDER BY id LIMIT :limit
);
