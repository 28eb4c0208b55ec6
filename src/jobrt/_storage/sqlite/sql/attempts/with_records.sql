-- Of many jobs, those that have attempt records. Few have, and records are read for few jobs at a time, as they may be
-- large.
SELECT json_group_array(DISTINCT job_id) FROM jobrt_attempt WHERE job_id IN (SELECT value FROM json_each(?));
