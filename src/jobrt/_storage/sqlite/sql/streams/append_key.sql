INSERT OR IGNORE INTO jobrt_entry_key (job_id, key) VALUES (?, ?);
