UPDATE jobrt_nursery SET ending = 1, state = 'failed' WHERE job_id = :id AND name = :name AND state = 'open';
