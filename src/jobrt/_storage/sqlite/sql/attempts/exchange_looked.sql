-- The place of the last of the :look due jobs after a position, or nothing if there are fewer.
SELECT schedule_at, id FROM jobrt_job INDEXED BY jobrt_job_waiting
WHERE queue = :queue AND state < 3 AND priority = :priority
    AND schedule_at <= :now AND (schedule_at, id) > (:after_at, :after_id)
ORDER BY schedule_at, id
LIMIT 1 OFFSET :look - 1;
