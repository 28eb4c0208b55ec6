INSERT INTO jobrt_worker (id, started_at, beat_at, expires_at, info)
VALUES (:id, :now, :now, :expires_at, :info)
ON CONFLICT (id) DO UPDATE SET
    started_at = excluded.started_at, beat_at = excluded.beat_at, expires_at = excluded.expires_at, info = excluded.info;
