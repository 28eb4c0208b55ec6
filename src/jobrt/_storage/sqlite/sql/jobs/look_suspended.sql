-- The first ids of suspended and closing jobs, and of some that are about to go on.
SELECT json_group_array(json_array(id, NULL)) FROM (
    SELECT job_id AS id FROM jobrt_waiting WHERE 1{behind} ORDER BY job_id {way} LIMIT :depth
);
