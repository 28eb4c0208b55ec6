-- What operators did with queues, cron entries and jobs (design/dashboard.md). Nothing on the path of a job reads it.
CREATE TABLE jobrt_action (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    subject TEXT NOT NULL,
    name TEXT NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    why TEXT NOT NULL
) STRICT;
