-- One row. insert.py writes the part after VALUES for each row of a statement: a statement per row costs twice as
-- much, and many times as much in a busy program (see transaction.py).
INSERT INTO jobrt_job
    (state, queue, name, priority, max_attempts, schedule_at, created_at, timeout, digest, context, tags, args, metadata,
    version, limit_key)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);
