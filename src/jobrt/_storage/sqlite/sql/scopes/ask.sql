-- The first call for a wait decides its limit.
INSERT INTO jobrt_answer (job_id, kind, name, number, until) VALUES (:id, :kind, :name, :number, :until)
ON CONFLICT (job_id, kind, name, number) DO NOTHING;
