-- The first final jobs of a state and a name in the order of their ends: [id, time]. The index has them in this order.
SELECT json_group_array(json_array(id, finished_at)) FROM (
    SELECT id, finished_at FROM jobrt_job INDEXED BY jobrt_job_final
    WHERE state > 3 AND state = :code AND name = :name AND finished_at IS NOT NULL{behind}
    ORDER BY finished_at {way}, id {way} LIMIT :depth
);
