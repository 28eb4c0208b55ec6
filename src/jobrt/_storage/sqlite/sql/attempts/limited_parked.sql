-- Of these jobs, whose attempts are parked in a worker, those that may go on, with their priorities.
SELECT json_group_array(json_array(id, name, limit_key, schedule_at, 1, priority)) FROM jobrt_job
WHERE id IN (SELECT value FROM json_each(:ids)) AND state < 3 AND queue = :queue AND schedule_at <= :now
    AND lease > 0 AND worker = :worker AND cancel_reason IS NULL
    AND name IN (SELECT value FROM json_each(:names)) AND {fits};
