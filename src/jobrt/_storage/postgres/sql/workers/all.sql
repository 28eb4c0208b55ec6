-- The database's clock decides whether a worker is alive. Collation "C" gives the same order everywhere.
select w.id, w.started_at at time zone 'UTC', w.beat_at at time zone 'UTC', w.expires_at at time zone 'UTC',
       w.expires_at > statement_timestamp(), w.info
  from {schema}.worker w
 order by w.id collate "C"
