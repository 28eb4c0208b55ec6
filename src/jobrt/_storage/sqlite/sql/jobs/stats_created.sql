SELECT id, created_at FROM jobrt_job WHERE id >= ? ORDER BY id LIMIT 1;
