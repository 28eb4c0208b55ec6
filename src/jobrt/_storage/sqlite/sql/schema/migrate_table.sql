-- Apart from the migrations, because it has to be there before the first of them can be noted.
CREATE TABLE IF NOT EXISTS jobrt_migration (name TEXT PRIMARY KEY, applied_at INTEGER NOT NULL) STRICT;
