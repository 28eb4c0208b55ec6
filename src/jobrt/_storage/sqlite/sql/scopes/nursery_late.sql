UPDATE jobrt_nursery SET deadline = NULL, ending = :alive, state = CASE WHEN :alive THEN 'too_slow' ELSE state END
WHERE job_id = :id AND name = :name;
