-- Sessions with a lock on one of the tables that writes must wait for.
select distinct a.pid, a.usename::text, coalesce(a.application_name, ''),
       extract(epoch from clock_timestamp() - a.xact_start)::double precision
  from pg_locks l join pg_stat_activity a on a.pid = l.pid
 where l.granted and l.database = (select oid from pg_database where datname = current_database())
   and l.relation in (select c.oid from pg_class c where c.relnamespace = to_regnamespace(:schema))
   and l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
 order by 1 limit 5
