INSERT INTO jobrt_queue (name, held_until)
SELECT queue, :until FROM jobrt_job WHERE id = :id AND limit_key IS NULL
ON CONFLICT (name) DO UPDATE SET held_until = max(ifnull(held_until, 0), :until);
