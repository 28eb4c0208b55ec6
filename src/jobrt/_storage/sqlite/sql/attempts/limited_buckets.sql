SELECT json_group_array(json_array(key, at, parts, unit, held_until)) FROM jobrt_bucket
WHERE queue = :queue AND key IN (SELECT value FROM json_each(:keys));
