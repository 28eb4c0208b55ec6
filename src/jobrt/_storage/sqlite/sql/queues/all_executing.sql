SELECT json_group_array(json_array(queue, number)) FROM (
    SELECT queue, count(*) AS number FROM jobrt_job INDEXED BY jobrt_job_executing WHERE state = 3 GROUP BY queue
);
