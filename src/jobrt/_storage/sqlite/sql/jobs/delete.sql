-- Attempts, details, steps and dependencies go by their foreign keys.
DELETE FROM jobrt_job WHERE id IN (SELECT value FROM json_each(?));
