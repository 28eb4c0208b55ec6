-- The first waiting jobs of a queue and a priority in the order of their due times: [id, time].
SELECT json_group_array(json_array(id, schedule_at)) FROM (
    SELECT id, schedule_at FROM jobrt_job INDEXED BY jobrt_job_waiting
    WHERE state < 3 AND queue = :queue AND priority = :priority{behind}
    ORDER BY schedule_at {way}, id {way} LIMIT :depth
);
