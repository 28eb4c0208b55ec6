UPDATE jobrt_worker SET beat_at = :now, expires_at = :expires_at, info = :info
WHERE id = :id AND {known_worker};
