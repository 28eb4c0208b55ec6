-- Take or renew. The term comes from a sequence, so it grows with each change of leader, whatever happens to the row.
insert into {schema}.leader as l (role, worker, term, expires_at)
values (:role, :worker, nextval('{literal}.term'),
        clock_timestamp() + make_interval(secs => :seconds::double precision))
    on conflict (role) do update
   set worker = excluded.worker,
       term = case when l.worker = excluded.worker and l.expires_at > clock_timestamp()
                   then l.term else excluded.term end,
       expires_at = clock_timestamp() + make_interval(secs => :seconds::double precision)
 where l.worker = excluded.worker or l.expires_at <= clock_timestamp()
returning l.term
