-- Of each of these keys, the first due jobs of one queue and priority.
SELECT json_group_array(json(jobs)) FROM (
    SELECT (
        SELECT json_group_array(json_array(id, name, limit_key, schedule_at)) FROM (
            SELECT id, name, limit_key, schedule_at FROM jobrt_job INDEXED BY jobrt_job_keyed
            WHERE queue = :queue AND state < 3 AND limit_key IS NOT NULL AND priority = :priority
                AND limit_key = lane.value AND schedule_at <= :now
                AND name IN (SELECT value FROM json_each(:names)) AND {fits}
                AND {free_but_parked}
            ORDER BY schedule_at, id LIMIT :jobs
        )
    ) AS jobs
    FROM json_each(:keys) AS lane
);
