-- Runs before all other statements, on a file that may be empty, or belong to an application.
SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'jobrt_migration';
