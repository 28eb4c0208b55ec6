SELECT json_group_array(json_array(id, lease, cancel_reason)) FROM jobrt_job INDEXED BY jobrt_job_executing
WHERE state = 3 AND worker = ? AND cancel_reason IS NOT NULL;
