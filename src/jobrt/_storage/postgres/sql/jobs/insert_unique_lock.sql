-- Inserts with the same digest run one at a time, until the end of the transaction; all take their locks in one
-- order. Unlike a unique index this also works for rules about time windows and states. The lookup that follows must
-- see what the last holder has committed. So it is a separate statement: a snapshot older than the lock would not
-- show it.
-- One row: those of a thousand locks took as long to read as the locks to take.
select count(pg_advisory_xact_lock(k.key)), current_setting('transaction_isolation'),
       statement_timestamp() at time zone 'UTC'
  from unnest(:keys::bigint[]) k(key)
