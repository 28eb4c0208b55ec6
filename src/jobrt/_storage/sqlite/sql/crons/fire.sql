-- One job per tick over the whole cluster: of many that fire it, one changes the row, and the job is inserted in
-- the same transaction.
UPDATE jobrt_cron SET last_tick = :tick WHERE name = :name AND (last_tick IS NULL OR last_tick < :tick);
