SELECT result, progress, saved FROM jobrt_detail WHERE job_id = ?;
