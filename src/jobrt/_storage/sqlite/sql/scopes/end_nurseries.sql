UPDATE jobrt_nursery SET ending = 1, state = CASE WHEN state = 'open' THEN 'cancelled' ELSE state END
WHERE job_id IN (SELECT value FROM json_each(:ids)) AND EXISTS (
    SELECT 1 FROM jobrt_member AS m WHERE m.job_id = jobrt_nursery.job_id AND m.nursery = jobrt_nursery.name AND m.alive = 1
);
