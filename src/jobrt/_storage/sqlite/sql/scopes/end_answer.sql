UPDATE jobrt_answer SET ended = :ended, value = :value WHERE job_id = :id AND kind = :kind AND name = :name AND number = :number;
