SELECT id, key, value FROM jobrt_message WHERE job_id = :id AND name = :name AND received = 0 ORDER BY id LIMIT 1;
