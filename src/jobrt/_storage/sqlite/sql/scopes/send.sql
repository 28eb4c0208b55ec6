INSERT INTO jobrt_message (job_id, name, key, value) VALUES (:id, :name, :key, :value)
ON CONFLICT (job_id, name, key) WHERE key IS NOT NULL DO NOTHING;
