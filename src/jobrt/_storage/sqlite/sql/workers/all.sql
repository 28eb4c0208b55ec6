SELECT json_group_array(json_array(id, started_at, beat_at, expires_at, info))
FROM (SELECT * FROM jobrt_worker ORDER BY id);
