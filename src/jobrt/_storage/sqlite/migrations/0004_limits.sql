-- The key by which a job is limited (`_core/keys.py`), for jobs of queues that have a key. Others have null, which takes
-- no room in the row and no entry in an index.
ALTER TABLE jobrt_job ADD COLUMN limit_key TEXT;
-- For claims that go from key to key.
CREATE INDEX jobrt_job_keyed ON jobrt_job (queue, priority DESC, limit_key, schedule_at, id, name, version, unfit)
    WHERE state < 3 AND limit_key IS NOT NULL;
-- For counting what runs of each key.
CREATE INDEX jobrt_job_keyed_executing ON jobrt_job (queue, limit_key) WHERE state = 3 AND limit_key IS NOT NULL;

-- key: the field of which keys are made; clients read it when they enqueue. turn: the key that was claimed last, if the
-- queue is fair. held_until: nothing of the queue starts before.
ALTER TABLE jobrt_queue ADD COLUMN key TEXT;
ALTER TABLE jobrt_queue ADD COLUMN turn TEXT;
ALTER TABLE jobrt_queue ADD COLUMN held_until INTEGER;

-- Tokens of a rate (`_core/rates.py`): of a key, or of the whole queue, whose key is the empty text. A bucket that is
-- full again is as good as none, and is deleted some time after full_at.
CREATE TABLE jobrt_bucket (
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    at INTEGER NOT NULL,
    parts INTEGER NOT NULL,
    unit INTEGER NOT NULL,
    held_until INTEGER NOT NULL DEFAULT 0,
    full_at INTEGER NOT NULL,
    PRIMARY KEY (queue, key)
) STRICT, WITHOUT ROWID;
