-- One job per tick in the whole cluster: of many callers only one changes the row. The job is inserted in the same
-- transaction. An older last tick than the caller has read: the database was set back, and ticks may be due again.
UPDATE jobrt_cron SET last_tick = :tick
WHERE name = :name AND (last_tick IS NULL OR last_tick < :tick) AND (:last IS NULL OR last_tick >= :last);
