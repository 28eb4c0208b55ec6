-- The database's clock decides whether a worker is alive. Collation "C" gives the same order everywhere.
select w.id, greatest(least(w.started_at, {last_time}), {first_time}) at time zone 'UTC',
       greatest(least(w.beat_at, {last_time}), {first_time}) at time zone 'UTC',
       greatest(least(w.expires_at, {last_time}), {first_time}) at time zone 'UTC',
       w.expires_at > statement_timestamp(), w.info
  from {schema}.worker w
 order by w.id collate "C"
