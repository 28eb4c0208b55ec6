-- `create schema if not exists` needs the right to create schemas even if the schema exists.
select 1 from pg_namespace where nspname = :name
