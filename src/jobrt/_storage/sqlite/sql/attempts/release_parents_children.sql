DELETE FROM jobrt_dependency WHERE child_id IN (SELECT value FROM json_each(?));
