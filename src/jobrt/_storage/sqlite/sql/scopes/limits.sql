INSERT INTO jobrt_deadline (job_id, deadline_at, expires_at) VALUES (?, ?, ?);
