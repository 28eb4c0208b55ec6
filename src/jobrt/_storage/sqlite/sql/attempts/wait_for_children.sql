-- Children that are already final or gone are left out.
INSERT OR IGNORE INTO jobrt_dependency (child_id, job_id)
SELECT id, :job FROM jobrt_job WHERE id IN (SELECT value FROM json_each(:children)) AND (state <= 3 OR state > 6) AND id <> :job;
