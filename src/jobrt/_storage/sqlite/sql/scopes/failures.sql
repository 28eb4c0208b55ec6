SELECT json_group_array(child_id) FROM (
    SELECT child_id FROM jobrt_member WHERE job_id = :id AND nursery = :name AND failed = 1 ORDER BY number LIMIT :limit
);
