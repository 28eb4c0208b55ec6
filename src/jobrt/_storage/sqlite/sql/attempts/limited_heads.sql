-- The next keys that have waiting jobs in one queue and priority, by skip scan, and the first due jobs of each. Of a
-- full key no job is read, however many wait.
WITH RECURSIVE lane (key, number) AS (
    SELECT (
        SELECT limit_key FROM jobrt_job INDEXED BY jobrt_job_keyed
        WHERE queue = :queue AND state < 3 AND limit_key IS NOT NULL AND priority = :priority
            AND limit_key > :after AND limit_key < :high
        ORDER BY limit_key LIMIT 1
    ), 1
    UNION ALL
    SELECT (
        SELECT limit_key FROM jobrt_job INDEXED BY jobrt_job_keyed
        WHERE queue = :queue AND state < 3 AND limit_key IS NOT NULL AND priority = :priority
            AND limit_key > lane.key AND limit_key < :high
        ORDER BY limit_key LIMIT 1
    ), lane.number + 1
    FROM lane WHERE lane.key IS NOT NULL AND lane.number < :keys
)
SELECT json_group_array(json_array(key, json(jobs))) FROM (
    SELECT lane.key, CASE WHEN lane.key NOT IN (SELECT value FROM json_each(:full)) THEN (
        SELECT json_group_array(json_array(id, name, limit_key, schedule_at, goes_on)) FROM (
            SELECT id, name, limit_key, schedule_at, ifnull(lease > 0, 0) AS goes_on FROM jobrt_job INDEXED BY jobrt_job_keyed
            WHERE queue = :queue AND state < 3 AND limit_key IS NOT NULL AND priority = :priority
                AND limit_key = lane.key AND schedule_at <= :now
                AND name IN (SELECT value FROM json_each(:names)) AND {fits}
                AND {free_but_parked}
            ORDER BY schedule_at, id LIMIT :jobs
        )
    ) ELSE '[]' END AS jobs
    FROM lane WHERE lane.key IS NOT NULL
);
