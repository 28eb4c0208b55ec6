-- The first due jobs of one queue and priority, in order, with their keys. However many of them are of keys that are
-- full, no more than :limit are looked at. The first element is that number.
SELECT json_array(count(*), json_group_array(json_array(id, name, limit_key, schedule_at, goes_on)) FILTER (
    WHERE limit_key >= :low AND limit_key < :high
        AND limit_key NOT IN (SELECT value FROM json_each(:full))
)) FROM (
    SELECT id, name, limit_key, schedule_at, ifnull(lease > 0, 0) AS goes_on FROM jobrt_job INDEXED BY jobrt_job_waiting
    WHERE queue = :queue AND state < 3 AND priority = :priority AND schedule_at <= :now
        AND name IN (SELECT value FROM json_each(:names)) AND {fits}
        AND {free_but_parked}
    ORDER BY schedule_at, id
    LIMIT :limit
);
