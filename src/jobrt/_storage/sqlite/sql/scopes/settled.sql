DELETE FROM jobrt_unsettled WHERE job_id IN (SELECT value FROM json_each(:ids));
