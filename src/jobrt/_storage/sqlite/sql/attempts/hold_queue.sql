INSERT INTO jobrt_queue (name, held_until)
SELECT queue, :until FROM jobrt_job WHERE id = :id AND limit_key IS NULL
ON CONFLICT (name) DO UPDATE SET 
    held_until = CASE WHEN {in_force} THEN max(held_until, :until) ELSE :until END;
