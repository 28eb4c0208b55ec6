UPDATE jobrt_job SET extra = extra | 8 WHERE id IN (SELECT value FROM json_each(:ids));
