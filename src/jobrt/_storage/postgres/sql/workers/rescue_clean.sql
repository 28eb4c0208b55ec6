-- A dead worker is removed when it has no more jobs; its heartbeats are refused in any case.
delete from {schema}.worker w
 where w.expires_at <= statement_timestamp()
   and not exists (select from {schema}.job j where j.worker = w.id and j.state = 'executing')
