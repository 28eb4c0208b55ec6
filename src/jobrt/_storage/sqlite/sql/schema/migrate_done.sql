INSERT INTO jobrt_migration (name, applied_at) VALUES (?, ?);
