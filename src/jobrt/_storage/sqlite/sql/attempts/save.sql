INSERT INTO jobrt_detail (job_id, progress, saved) VALUES (:id, :progress, :saved)
ON CONFLICT (job_id) DO UPDATE SET
    progress = coalesce(excluded.progress, progress), saved = coalesce(excluded.saved, saved);
