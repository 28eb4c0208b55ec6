SELECT json_group_array(job_id) FROM (SELECT job_id FROM jobrt_unsettled LIMIT :limit);
