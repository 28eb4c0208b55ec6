-- The first value is kept: a step that two attempts have finished has one result.
INSERT OR IGNORE INTO jobrt_step (job_id, name, value) VALUES (:id, :step, :value);
