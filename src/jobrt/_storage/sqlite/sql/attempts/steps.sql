SELECT json_group_object(name, value) FROM jobrt_step WHERE job_id = ?;
