-- `create schema if not exists` would need the right to create schemas all the same.
select 1 from pg_namespace where nspname = :name
