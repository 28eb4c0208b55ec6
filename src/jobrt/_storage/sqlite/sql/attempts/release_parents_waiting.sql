SELECT json_group_array(job_id) FROM (
    SELECT DISTINCT job_id FROM jobrt_dependency WHERE child_id IN (SELECT value FROM json_each(?))
);
