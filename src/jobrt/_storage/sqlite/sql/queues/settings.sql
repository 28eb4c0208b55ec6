SELECT json_group_array(json_array(name, paused, concurrency)) FROM (SELECT * FROM jobrt_queue ORDER BY name);
