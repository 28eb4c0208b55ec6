-- The row lock guarantees one job per tick: only one caller finds this tick newer than the last. The job is inserted
-- in the same transaction.
update {schema}.cron c set last_tick = :tick::timestamptz
 where c.name = :name and (c.last_tick is null or c.last_tick < :tick::timestamptz)
returning c.name
