UPDATE jobrt_deadline SET expires_at = NULL WHERE job_id = ?;
