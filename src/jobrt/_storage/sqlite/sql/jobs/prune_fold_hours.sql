-- Delete the hours that `prune_fold_months` has just summed: all but the first of each month.
DELETE FROM jobrt_rollup WHERE hour < :before AND hour <> CAST(strftime('%s', hour / 1000000, 'unixepoch', 'start of month') AS INTEGER) * 1000000;
