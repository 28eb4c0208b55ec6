-- From the index alone.
SELECT json_group_array(json_array(queue, state, due, number, oldest)) FROM (
    SELECT queue, state, schedule_at <= :now AS due, count(*) AS number, min(schedule_at) AS oldest
    FROM jobrt_job INDEXED BY jobrt_job_waiting WHERE state < 3
    GROUP BY queue, state, due
);
