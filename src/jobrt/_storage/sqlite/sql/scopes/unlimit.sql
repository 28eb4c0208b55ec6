DELETE FROM jobrt_deadline WHERE job_id IN (SELECT value FROM json_each(:ids));
