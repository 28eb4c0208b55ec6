-- For this transaction only. It is set after migrate_lock.sql, which may wait long: nobody else waits behind it.
select set_config('lock_timeout', :milliseconds, true)
