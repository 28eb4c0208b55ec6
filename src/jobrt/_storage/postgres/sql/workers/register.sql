-- Repeating the call after a lost reply has no further effect.
insert into {schema}.worker (id, started_at, beat_at, expires_at, info)
values (:worker, statement_timestamp(), statement_timestamp(),
        statement_timestamp() + make_interval(secs => :lease::double precision), :info)
    on conflict (id) do update
   set started_at = excluded.started_at, beat_at = excluded.beat_at, expires_at = excluded.expires_at,
       info = excluded.info
