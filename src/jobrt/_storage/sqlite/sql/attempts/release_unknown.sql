SELECT json_group_array(json_array(id, lease)) FROM jobrt_job INDEXED BY jobrt_job_executing
WHERE state = 3 AND worker = :worker AND queue = :queue;
