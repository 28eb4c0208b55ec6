-- One row. insert.py writes the part after VALUES for each row of a statement: a statement per row costs twice as
-- much, and many times as much in a busy program (see transaction.py). OR FAIL: every caller undoes the whole batch if
-- a row is refused. Otherwise SQLite would copy each page to a journal before a statement first changes it. That was
-- ten times as many writes for unique jobs, which change pages all over an index.
INSERT OR FAIL INTO jobrt_job
    (state, queue, name, priority, max_attempts, schedule_at, created_at, timeout, digest, context, tags, args, metadata,
    version, limit_key)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);
