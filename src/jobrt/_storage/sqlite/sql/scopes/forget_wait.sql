DELETE FROM jobrt_waiting WHERE job_id = ?;
