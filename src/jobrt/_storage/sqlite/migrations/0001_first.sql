-- Names begin with jobrt_ because an application may keep its own tables in the same file: that is what makes
-- "exactly once inside one database" possible. Times are microseconds since 1970 UTC.
--
-- jobrt_job is the only table that every attempt writes. `state` is a number, ordered so that "waiting" is
-- state < 3 and "final" is state > 3. The conditions of partial indexes are evaluated on each insert; with states as
-- texts that alone halved the rate of inserts.
--     0 scheduled  1 available  2 retryable  3 executing  4 completed  5 cancelled  6 discarded
-- Short and frequently used columns come first, because SQLite decodes a row from its beginning.
CREATE TABLE jobrt_job (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- AUTOINCREMENT: the id of a deleted job is never used again
    state INTEGER NOT NULL,
    queue TEXT NOT NULL,
    name TEXT NOT NULL,
    priority INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER,
    schedule_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    lease INTEGER,                         -- the claim's number while executing; negated when its outcome is written
    worker TEXT,
    started_at INTEGER,
    finished_at INTEGER,
    extra INTEGER NOT NULL DEFAULT 0,      -- 1: a claim must read attempts, checkpoint and progress
    timeout REAL,
    digest TEXT,
    cancel_reason TEXT,
    context TEXT,
    tags TEXT NOT NULL DEFAULT '[]',
    args TEXT NOT NULL,
    metadata TEXT NOT NULL DEFAULT '{}'
) STRICT;

-- Claim order. Name and state are included so that skipping jobs, and counting them, needs no row access.
CREATE INDEX jobrt_job_waiting ON jobrt_job (queue, priority DESC, schedule_at, id, name, state) WHERE state < 3;
-- For rescue, cluster-wide limits and cancel requests.
CREATE INDEX jobrt_job_executing ON jobrt_job (worker, queue) WHERE state = 3;
-- For retention, statistics and listings of final jobs.
CREATE INDEX jobrt_job_final ON jobrt_job (state, name, finished_at) WHERE state > 3;
CREATE INDEX jobrt_job_digest ON jobrt_job (digest, state) WHERE digest IS NOT NULL;

-- Attempts that did not end cleanly. The job's own row holds a clean last attempt.
CREATE TABLE jobrt_attempt (
    job_id INTEGER NOT NULL REFERENCES jobrt_job ON DELETE CASCADE,
    lease INTEGER NOT NULL,
    number INTEGER NOT NULL,
    "end" TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    worker TEXT NOT NULL,
    error_type TEXT,
    message TEXT,
    traceback TEXT,
    PRIMARY KEY (job_id, lease)
) STRICT;
CREATE INDEX jobrt_attempt_finished ON jobrt_attempt (finished_at);

-- Values that are large or rarely read.
CREATE TABLE jobrt_detail (
    job_id INTEGER PRIMARY KEY REFERENCES jobrt_job ON DELETE CASCADE,
    result TEXT,
    progress TEXT,
    saved TEXT
) STRICT;

CREATE TABLE jobrt_step (
    job_id INTEGER NOT NULL REFERENCES jobrt_job ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (job_id, name)
) STRICT;

-- Children that jobs wait for: a job is due when it has no more rows here.
CREATE TABLE jobrt_dependency (
    child_id INTEGER NOT NULL,
    job_id INTEGER NOT NULL REFERENCES jobrt_job ON DELETE CASCADE,
    PRIMARY KEY (child_id, job_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX jobrt_dependency_job ON jobrt_dependency (job_id);

CREATE TABLE jobrt_worker (
    id TEXT PRIMARY KEY,
    started_at INTEGER NOT NULL,
    beat_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    info TEXT NOT NULL
) STRICT;

CREATE TABLE jobrt_queue (
    name TEXT PRIMARY KEY,
    paused INTEGER NOT NULL DEFAULT 0,
    concurrency INTEGER
) STRICT;

CREATE TABLE jobrt_leader (
    role TEXT PRIMARY KEY,
    worker TEXT,
    term INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE jobrt_cron (
    name TEXT PRIMARY KEY,
    spec TEXT NOT NULL,
    paused INTEGER NOT NULL DEFAULT 0,
    last_tick INTEGER,
    created_at INTEGER NOT NULL
) STRICT;

-- Counts of deleted jobs; existing ones are counted on request. `kind` is a field of Bucket; `bucket` is the class in
-- the histogram (completed jobs; otherwise -1).
CREATE TABLE jobrt_rollup (
    hour INTEGER NOT NULL,
    queue TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    number INTEGER NOT NULL,
    run_time INTEGER NOT NULL,
    PRIMARY KEY (hour, queue, name, kind, bucket)
) STRICT, WITHOUT ROWID;

-- The lease of the last claim. One row.
CREATE TABLE jobrt_lease (last INTEGER NOT NULL) STRICT;
INSERT INTO jobrt_lease VALUES (0);
