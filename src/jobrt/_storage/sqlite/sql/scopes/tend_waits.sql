SELECT json_group_array(job_id) FROM (
    SELECT job_id FROM jobrt_waiting WHERE until IS NOT NULL AND until <= :now ORDER BY until LIMIT :limit
);
