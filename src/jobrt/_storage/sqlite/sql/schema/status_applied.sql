SELECT json_group_array(name) FROM (SELECT name FROM jobrt_migration ORDER BY name);
