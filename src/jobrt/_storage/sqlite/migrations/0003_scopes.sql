-- Durable scopes (design/scopes.md). A job without a family, a wait or a deadline has no row in these tables.
--
-- Two more states: 7 suspended, 8 closing. So a final job has a state from 4 to 6.
-- More bits of `extra`: 8 has a parent in a nursery, 16 has had a nursery, 32 was asked to stop by its parent,
-- 64 has a deadline or an expiry, 128 its deadline has passed. A parked job is suspended, or available again, with a
-- lease above zero.

-- `ending`: its members are being ended, and not all of them are over.
CREATE TABLE jobrt_nursery (
    job_id INTEGER NOT NULL REFERENCES jobrt_job ON DELETE CASCADE,
    name TEXT NOT NULL,
    cancels INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'open',
    reason TEXT NOT NULL DEFAULT '',
    sealed INTEGER NOT NULL DEFAULT 0,
    retried INTEGER NOT NULL DEFAULT 0,
    ending INTEGER NOT NULL DEFAULT 0,
    deadline INTEGER,
    PRIMARY KEY (job_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX jobrt_nursery_ending ON jobrt_nursery (job_id) WHERE ending = 1;
CREATE INDEX jobrt_nursery_untold ON jobrt_nursery (job_id) WHERE sealed = 0 AND state IN ('failed', 'too_slow');
CREATE INDEX jobrt_nursery_deadline ON jobrt_nursery (deadline) WHERE deadline IS NOT NULL AND state = 'open';

-- kind: 'c' = a child; 'd' = a unique job from elsewhere that a nursery asked for; 'o' = enqueued by the job, but
-- independent of it (nursery '').
CREATE TABLE jobrt_member (
    number INTEGER PRIMARY KEY,
    job_id INTEGER NOT NULL REFERENCES jobrt_job ON DELETE CASCADE,
    child_id INTEGER NOT NULL,
    alive INTEGER NOT NULL,
    failed INTEGER NOT NULL DEFAULT 0,
    kind TEXT NOT NULL,
    nursery TEXT NOT NULL,
    identity TEXT NOT NULL,
    UNIQUE (job_id, nursery, identity)
) STRICT;
CREATE INDEX jobrt_member_number ON jobrt_member (job_id, nursery, number);
CREATE INDEX jobrt_member_alive ON jobrt_member (job_id, nursery) WHERE alive = 1;
CREATE INDEX jobrt_member_child ON jobrt_member (child_id) WHERE kind <> 'd';

-- worker: where the job is parked. name of a 'close': the number of the state that the job will have.
CREATE TABLE jobrt_waiting (
    job_id INTEGER PRIMARY KEY REFERENCES jobrt_job ON DELETE CASCADE,
    number INTEGER NOT NULL DEFAULT 0,
    since INTEGER NOT NULL,
    until INTEGER,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    worker TEXT
) STRICT;
CREATE INDEX jobrt_waiting_until ON jobrt_waiting (until) WHERE until IS NOT NULL;
CREATE INDEX jobrt_waiting_worker ON jobrt_waiting (worker) WHERE worker IS NOT NULL;

CREATE TABLE jobrt_answer (
    job_id INTEGER NOT NULL REFERENCES jobrt_job ON DELETE CASCADE,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    until INTEGER,
    ended TEXT,
    value TEXT,
    PRIMARY KEY (job_id, kind, name, number)
) STRICT, WITHOUT ROWID;

-- Received messages with a key stay, so that a second one with that key is dropped.
CREATE TABLE jobrt_message (
    id INTEGER PRIMARY KEY,
    job_id INTEGER NOT NULL REFERENCES jobrt_job ON DELETE CASCADE,
    received INTEGER NOT NULL DEFAULT 0,
    name TEXT NOT NULL,
    key TEXT,
    value TEXT NOT NULL
) STRICT;
CREATE INDEX jobrt_message_next ON jobrt_message (job_id, name, id) WHERE received = 0;
CREATE UNIQUE INDEX jobrt_message_key ON jobrt_message (job_id, name, key) WHERE key IS NOT NULL;

CREATE TABLE jobrt_deadline (
    job_id INTEGER PRIMARY KEY REFERENCES jobrt_job ON DELETE CASCADE,
    deadline_at INTEGER,
    expires_at INTEGER
) STRICT;
CREATE INDEX jobrt_deadline_at ON jobrt_deadline (deadline_at) WHERE deadline_at IS NOT NULL;
CREATE INDEX jobrt_deadline_expires ON jobrt_deadline (expires_at) WHERE expires_at IS NOT NULL;

-- Members that have ended, until their nurseries know. A worker of the version before ends jobs without telling them.
CREATE TABLE jobrt_unsettled (job_id INTEGER PRIMARY KEY) STRICT;
CREATE TRIGGER jobrt_job_unsettled AFTER UPDATE OF finished_at ON jobrt_job
WHEN old.extra & 8 AND new.state BETWEEN 4 AND 6 AND old.state NOT BETWEEN 4 AND 6
BEGIN
    INSERT OR IGNORE INTO jobrt_unsettled VALUES (new.id);
END;
