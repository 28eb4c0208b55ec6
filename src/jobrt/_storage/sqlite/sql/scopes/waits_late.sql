UPDATE jobrt_waiting SET until = NULL WHERE job_id IN (SELECT value FROM json_each(:ids));
