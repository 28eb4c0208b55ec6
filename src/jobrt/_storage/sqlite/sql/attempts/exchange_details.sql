SELECT json_group_array(json_array(job_id, saved, progress)) FROM jobrt_detail
WHERE job_id IN (SELECT value FROM json_each(?));
