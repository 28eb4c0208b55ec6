-- Asked before anything else of a file that may be empty, or an application's own.
SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'jobrt_migration';
