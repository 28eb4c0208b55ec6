-- An expired worker stays expired: its jobs may have been rescued already.
UPDATE jobrt_worker SET beat_at = :now, expires_at = :expires_at, info = :info
WHERE id = :id AND expires_at > :now;
