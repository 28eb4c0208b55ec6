SELECT json_group_array(json_array(id, state, schedule_at, started_at)) FROM jobrt_job
WHERE id IN (SELECT value FROM json_each(?));
