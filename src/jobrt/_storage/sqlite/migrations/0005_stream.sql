-- What jobs log and emit (design/stream.md). Only jobs that did so have rows here, and only `jobrt_stream` refers to
-- jobs: each such table costs a probe for every job that is deleted.
--   lease, batch: of the last batch, so that one whose reply was lost is stored once.
--   last, bytes: the number of the newest entry, and the bytes of all entries so far, those that were trimmed included.
CREATE TABLE jobrt_stream (
    job_id INTEGER PRIMARY KEY REFERENCES jobrt_job ON DELETE CASCADE,
    lease INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    last INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;

-- start: the bytes of all entries before this one.
CREATE TABLE jobrt_entry (
    job_id INTEGER NOT NULL REFERENCES jobrt_stream ON DELETE CASCADE,
    number INTEGER NOT NULL,
    start INTEGER NOT NULL,
    at INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    kind TEXT NOT NULL,
    key TEXT,
    value TEXT NOT NULL,
    PRIMARY KEY (job_id, number)
) STRICT;

CREATE TABLE jobrt_entry_key (
    job_id INTEGER NOT NULL REFERENCES jobrt_stream ON DELETE CASCADE,
    key TEXT NOT NULL,
    PRIMARY KEY (job_id, key)
) STRICT, WITHOUT ROWID;
