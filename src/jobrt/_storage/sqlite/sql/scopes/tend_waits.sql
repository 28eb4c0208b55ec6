SELECT json_group_array(job_id) FROM (
    SELECT job_id FROM jobrt_waiting WHERE until IS NOT NULL AND until <= :now
        AND job_id NOT IN (SELECT value FROM json_each(:but))
    ORDER BY until LIMIT :limit
);
