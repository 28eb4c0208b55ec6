INSERT INTO jobrt_stream (job_id, lease, batch, last, bytes) VALUES (:id, :lease, :batch, :last, :bytes)
ON CONFLICT (job_id) DO UPDATE SET
    lease = excluded.lease, batch = excluded.batch, last = excluded.last, bytes = excluded.bytes;
