-- Of these jobs, those that have a parent in a nursery, a deadline or an expiry; and whether they have run before.
SELECT json_group_array(json_array(id, started_at IS NOT NULL)) FROM jobrt_job
WHERE id IN (SELECT value FROM json_each(:ids)) AND extra & 72;
