UPDATE jobrt_job SET state = 8, finished_at = NULL, lease = CASE WHEN lease > 0 THEN NULL ELSE lease END
WHERE id IN (SELECT value FROM json_each(:ids));
