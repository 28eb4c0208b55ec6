SELECT json_group_array(json_array(job_id, name, EXISTS (
    SELECT 1 FROM jobrt_member AS m WHERE m.job_id = late.job_id AND m.nursery = late.name AND m.alive = 1))) FROM (
    SELECT job_id, name FROM jobrt_nursery WHERE deadline IS NOT NULL AND state = 'open' AND deadline <= :now
        AND job_id NOT IN (SELECT value FROM json_each(:but))
    LIMIT :limit
) AS late;
