SELECT ended, value, until FROM jobrt_answer WHERE job_id = :id AND kind = :kind AND name = :name AND number = :number;
