-- `version` is the VERSION of the class that made the payload; null is 1, so most rows have neither column. `unfit` is
-- the shape of a class that was too old for the payload: claims for such a class pass the job by.
alter table {schema}.job add column version smallint, add column unfit bigint;

-- Roles that may insert the other columns may insert this one.
do $$
declare
    role text;
begin
    for role in
        select distinct case p.grantee when 'PUBLIC' then 'public' else quote_ident(p.grantee) end
          from information_schema.column_privileges p
          join pg_class c on c.oid = '{literal}.job'::regclass
          join pg_namespace n on n.oid = c.relnamespace
         where p.table_schema = n.nspname and p.table_name = 'job' and p.column_name = 'context'
           and p.privilege_type = 'INSERT'
    loop
        execute 'grant insert (version) on {literal}.job to ' || role;
    end loop;
end
$$;
