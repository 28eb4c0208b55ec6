-- The row lock guarantees one job per tick: only one caller finds this tick newer than the last. The job is inserted
-- in the same transaction. An older last tick than the caller has read: the database was set back, and ticks may be
-- due again.
update {schema}.cron c set last_tick = :tick::timestamptz
 where c.name = :name and (c.last_tick is null or c.last_tick < :tick::timestamptz)
   and (:last::timestamptz is null or c.last_tick >= :last::timestamptz)
returning c.name
