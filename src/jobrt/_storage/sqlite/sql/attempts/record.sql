INSERT INTO jobrt_attempt
    (job_id, lease, number, "end", started_at, finished_at, worker, error_type, message, traceback)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (job_id, lease) DO NOTHING;
