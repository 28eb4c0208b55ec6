-- The lease is the fence; a step that was stored before stays as it was.
INSERT OR IGNORE INTO jobrt_step (job_id, name, value)
SELECT id, :name, :value FROM jobrt_job WHERE id = :id AND lease = :lease;
