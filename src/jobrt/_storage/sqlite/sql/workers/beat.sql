-- An expired worker stays expired: its jobs may have been rescued already. The row must be at least as new as the last
-- heartbeat that was answered: it is older if the file was restored.
UPDATE jobrt_worker SET beat_at = :now, expires_at = :expires_at, info = :info
WHERE id = :id AND expires_at > :now
    AND CASE WHEN json_valid(info) THEN coalesce(json_extract(info, '$.beat'), 0) ELSE 0 END >= :since;
