SELECT json_group_array(json_array(number, at, attempt, kind, "key", value)) FROM (
    SELECT * FROM jobrt_entry WHERE job_id = :id AND number > :after ORDER BY number
);
