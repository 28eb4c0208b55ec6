-- Waiting jobs of one queue and priority after a position; those whose key is of another setting, or missing, with what
-- a key is made of.
SELECT json_group_array(CASE WHEN limit_key >= :low AND limit_key < :high THEN json_array(id, schedule_at)
    ELSE json_array(id, schedule_at, name, {small_texts}) END)
FROM (
    SELECT * FROM jobrt_job INDEXED BY jobrt_job_waiting
    WHERE queue = :queue AND state < 3 AND priority = :priority AND (schedule_at, id) > (:after_at, :after_id)
    ORDER BY schedule_at, id
    LIMIT :limit
);
