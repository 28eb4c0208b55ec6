UPDATE jobrt_waiting SET worker = NULL WHERE job_id IN (SELECT value FROM json_each(:ids)) AND worker IS NOT NULL;
