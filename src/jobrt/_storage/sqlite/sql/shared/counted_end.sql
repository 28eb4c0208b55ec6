-- The counts for the end of a job: hour, queue, name, kind, class in the histogram of run times (each class is four
-- times as wide as the one before), run time.
-- A damaged row has no times, or times so far apart that their difference is a REAL.
ifnull(finished_at, created_at) - ifnull(finished_at, created_at) % 3600000000, queue, name,
CASE state WHEN 4 THEN 'completed' WHEN 5 THEN 'cancelled' ELSE 'dead' END,
CASE
    WHEN state <> 4 THEN -1
    WHEN finished_at - started_at < 1000 THEN 0
    WHEN finished_at - started_at < 4000 THEN 1
    WHEN finished_at - started_at < 16000 THEN 2
    WHEN finished_at - started_at < 64000 THEN 3
    WHEN finished_at - started_at < 256000 THEN 4
    WHEN finished_at - started_at < 1024000 THEN 5
    WHEN finished_at - started_at < 4096000 THEN 6
    WHEN finished_at - started_at < 16384000 THEN 7
    WHEN finished_at - started_at < 65536000 THEN 8
    WHEN finished_at - started_at < 262144000 THEN 9
    WHEN finished_at - started_at < 1048576000 THEN 10
    ELSE 11
END,
CASE WHEN state = 4 THEN CAST(ifnull(finished_at - started_at, 0) AS INTEGER) ELSE 0 END
