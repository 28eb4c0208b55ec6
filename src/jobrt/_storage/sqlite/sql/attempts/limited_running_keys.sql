-- How many jobs of each key run. The index has running jobs with a key only.
SELECT json_group_object(limit_key, number) FROM (
    SELECT limit_key, count(*) AS number FROM jobrt_job INDEXED BY jobrt_job_keyed_executing
    WHERE state = 3 AND limit_key IS NOT NULL AND queue = ? GROUP BY limit_key
);
