DELETE FROM jobrt_step WHERE job_id = :id;
