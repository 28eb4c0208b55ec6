DELETE FROM jobrt_answer WHERE job_id = :id AND ended IS NOT NULL;
