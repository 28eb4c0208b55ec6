-- Take turns by digest, in one order, until the end of the transaction. Unlike a unique index this also serves
-- rules that look at windows and states; the lookup that follows must see what the last holder has committed, so
-- it is a statement of its own, and a snapshot that is older than the lock would not do.
select pg_advisory_xact_lock(k.key), current_setting('transaction_isolation'),
       statement_timestamp() at time zone 'UTC'
  from unnest(:keys::bigint[]) k(key)
