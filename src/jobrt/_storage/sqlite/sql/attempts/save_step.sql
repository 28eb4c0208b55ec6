-- The condition on the lease refuses lost attempts. A step that is already stored is unchanged.
INSERT OR IGNORE INTO jobrt_step (job_id, name, value)
SELECT id, :name, :value FROM jobrt_job WHERE id = :id AND lease = :lease;
