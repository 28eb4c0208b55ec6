-- Other processes that migrate wait here, and then find nothing pending.
select pg_advisory_xact_lock(hashtextextended('jobrt migrates ' || :name, 0))
