-- What operators did with queues, cron entries and jobs (design/dashboard.md). Nothing on the path of a job reads it.
create table {schema}.action (
    id      bigint generated always as identity primary key,
    at      timestamptz not null default statement_timestamp(),
    subject text not null,
    name    text not null,
    who     text not null,
    what    text not null,
    why     text not null
);

-- Roles that may change queues may add actions; roles that may read jobs may read them.
do $$
declare
    given record;
begin
    for given in
        select distinct case p.grantee when 'PUBLIC' then 'public' else quote_ident(p.grantee) end as role,
               case p.privilege_type when 'UPDATE' then 'select, insert, delete' else 'select' end as allowed
          from information_schema.table_privileges p
          join pg_class c on c.oid = '{literal}.queue'::regclass
          join pg_namespace n on n.oid = c.relnamespace
         where p.table_schema = n.nspname
           and (p.table_name = 'queue' and p.privilege_type = 'UPDATE'
                or p.table_name = 'job' and p.privilege_type = 'SELECT')
    loop
        execute 'grant ' || given.allowed || ' on {literal}.action to ' || given.role;
    end loop;
end
$$;
