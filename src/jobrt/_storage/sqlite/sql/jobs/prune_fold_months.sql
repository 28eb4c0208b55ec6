-- Add old hourly counts to the first hour of their month; `prune_fold_hours` then deletes the hours.
-- total and CAST: sum raises an error beyond the largest integer, and a column refuses the REAL that + gives.
INSERT INTO jobrt_rollup (hour, queue, name, kind, bucket, number, run_time)
SELECT month, queue, name, kind, bucket, CAST(total(number) AS INTEGER), CAST(total(run_time) AS INTEGER) FROM (
    SELECT CAST(strftime('%s', hour / 1000000, 'unixepoch', 'start of month') AS INTEGER) * 1000000 AS month, *
    FROM jobrt_rollup WHERE hour < :before
) WHERE hour <> month GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (hour, queue, name, kind, bucket) DO UPDATE SET
    number = CAST(number + excluded.number AS INTEGER), run_time = CAST(run_time + excluded.run_time AS INTEGER);
