SELECT json_group_array(job_id) FROM jobrt_deadline WHERE job_id IN (SELECT value FROM json_each(:ids)) AND expires_at <= :now;
