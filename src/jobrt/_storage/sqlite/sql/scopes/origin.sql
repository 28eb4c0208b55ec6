INSERT OR IGNORE INTO jobrt_member (job_id, child_id, alive, kind, nursery, identity) VALUES (?, ?, 0, 'o', '', ?);
