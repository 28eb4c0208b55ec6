-- Those of some jobs that have a text, in the order of their ids in :ids. CROSS JOIN keeps that order, and ends early.
-- instr with lower knows the letters of ASCII alone, as LIKE does, but has no wildcards.
SELECT json_group_array(id) FROM (
    SELECT jobrt_job.id FROM json_each(:ids) AS wanted CROSS JOIN jobrt_job ON jobrt_job.id = wanted.value
    WHERE instr(lower(name), :plain)
    OR instr(lower(substr(args, 1, :payload)), :escaped) OR instr(lower(substr(args, 1, :payload)), :ascii)
    OR EXISTS (
        SELECT 1 FROM jobrt_attempt AS attempt WHERE attempt.job_id = jobrt_job.id
        AND (instr(lower(attempt.error_type), :plain) OR instr(lower(attempt.message), :plain))
    )
    LIMIT :limit
)
