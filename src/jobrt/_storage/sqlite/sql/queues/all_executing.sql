SELECT json_group_array(json_array(queue, claimed, executing)) FROM (
    SELECT queue, count(*) FILTER (WHERE started_at IS NULL) AS claimed, count(started_at) AS executing
    FROM jobrt_job INDEXED BY jobrt_job_executing WHERE state = 3 GROUP BY queue
);
