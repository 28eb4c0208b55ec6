-- The names of final jobs of a state, by skip scan: one index probe per name, however many jobs there are.
WITH RECURSIVE found (name) AS (
    SELECT min(name) FROM jobrt_job WHERE state > 3 AND state = :state
    UNION ALL
    SELECT (SELECT min(job.name) FROM jobrt_job AS job WHERE job.state > 3 AND job.state = :state AND job.name > found.name)
    FROM found WHERE found.name IS NOT NULL
)
SELECT json_group_array(name) FROM found WHERE name IS NOT NULL;
