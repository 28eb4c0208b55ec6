SELECT json_group_array(json_array(name, spec, paused, last_tick, created_at))
FROM (SELECT * FROM jobrt_cron ORDER BY name);
