-- Not part of a migration, because the table must exist before the first one can be recorded.
CREATE TABLE IF NOT EXISTS jobrt_migration (name TEXT PRIMARY KEY, applied_at INTEGER NOT NULL) STRICT;
