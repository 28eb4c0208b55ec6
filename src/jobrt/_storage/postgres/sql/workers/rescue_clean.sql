-- A dead worker is forgotten when it has no jobs any more; it cannot beat again in any case.
delete from {schema}.worker w
 where w.expires_at <= statement_timestamp()
   and not exists (select from {schema}.job j where j.worker = w.id and j.state = 'executing')
