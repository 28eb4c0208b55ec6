-- Foreign keys delete attempts, details, steps and dependencies.
DELETE FROM jobrt_job WHERE id IN (SELECT value FROM json_each(?));
