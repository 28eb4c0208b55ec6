-- The row lock is the constraint: of all who come with this tick one finds it newer than the last, and the job
-- is inserted in the same transaction.
update {schema}.cron c set last_tick = :tick::timestamptz
 where c.name = :name and (c.last_tick is null or c.last_tick < :tick::timestamptz)
returning c.name
