-- How many jobs of each key run, and the keys of which other workers run some. The index has running jobs with a key only.
SELECT json_array(
    json_group_object(limit_key, number), json_group_array(limit_key) FILTER (WHERE others > 0)
) FROM (
    SELECT limit_key, count(*) AS number, sum(worker IS NOT :worker) AS others
    FROM jobrt_job INDEXED BY jobrt_job_keyed_executing
    WHERE state = 3 AND limit_key IS NOT NULL AND queue = :queue GROUP BY limit_key
);
