INSERT INTO jobrt_waiting (job_id, number, since, until, kind, name, worker)
VALUES (:id, :number, :now, :until, :kind, :name, :worker)
ON CONFLICT (job_id) DO UPDATE SET
    since = CASE WHEN kind = excluded.kind AND name = excluded.name AND number = excluded.number
        THEN since ELSE excluded.since END,
    number = excluded.number, until = excluded.until, kind = excluded.kind, name = excluded.name,
    worker = excluded.worker;
