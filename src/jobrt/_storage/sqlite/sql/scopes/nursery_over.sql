UPDATE jobrt_nursery SET ending = 0, state = CASE WHEN :failed AND state = 'open' THEN 'failed' ELSE state END
WHERE job_id = :id AND name = :name;
