SELECT json_group_array(job_id) FROM (SELECT job_id FROM jobrt_unsettled
    WHERE job_id NOT IN (SELECT value FROM json_each(:but)) LIMIT :limit);
