DELETE FROM jobrt_deadline WHERE job_id = ?;
