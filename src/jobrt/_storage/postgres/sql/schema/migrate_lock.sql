-- Who comes at the same time waits, and then finds it done.
select pg_advisory_xact_lock(hashtextextended('jobrt migrates ' || :name, 0))
