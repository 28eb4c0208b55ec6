-- Due jobs of one queue and priority, in order, after a position, without a key.
SELECT json_group_array(json_array(id, name, '', schedule_at, goes_on)) FROM (
    SELECT id, name, schedule_at, ifnull(lease > 0, 0) AS goes_on FROM jobrt_job INDEXED BY jobrt_job_waiting
    WHERE queue = :queue AND state < 3 AND priority = :priority
        AND schedule_at <= :now AND (schedule_at, id) > (:after_at, :after_id)
        AND name IN (SELECT value FROM json_each(:names)) AND {fits}
        AND {free_but_parked}
    ORDER BY schedule_at, id
    LIMIT :limit
);
