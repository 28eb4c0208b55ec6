-- The first ids of the jobs that some jobs have enqueued.
SELECT json_group_array(json_array(id, NULL)) FROM (
    SELECT DISTINCT child_id AS id FROM jobrt_member
    WHERE kind <> 'd' AND job_id IN (SELECT value FROM json_each(:parents)){behind}
    ORDER BY child_id {way} LIMIT :depth
);
