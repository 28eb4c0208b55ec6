-- The oldest other transaction that holds a lock on a table of the schema.
select a.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''),
       extract(epoch from clock_timestamp() - coalesce(a.xact_start, clock_timestamp()))::double precision
  from pg_locks l
  join pg_class c on c.oid = l.relation
  join pg_namespace n on n.oid = c.relnamespace and n.nspname = :schema
  join pg_stat_activity a on a.pid = l.pid
 where l.granted and l.pid <> pg_backend_pid()
   and l.database = (select d.oid from pg_database d where d.datname = current_database())
 order by a.xact_start
 limit 1
