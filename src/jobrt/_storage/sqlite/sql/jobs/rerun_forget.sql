UPDATE jobrt_detail SET result = NULL WHERE job_id IN (SELECT value FROM json_each(?)) AND result IS NOT NULL;
