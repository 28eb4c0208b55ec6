-- One row; insert.py repeats what follows VALUES for as many as go in at once, because a statement per row costs
-- twice as much, and many times as much in a busy program (see transaction.py).
INSERT INTO jobrt_job
    (state, queue, name, priority, max_attempts, schedule_at, created_at, timeout, digest, context, tags, args, metadata)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);
