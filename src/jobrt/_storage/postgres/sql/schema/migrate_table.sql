-- Not part of a migration, because the table must exist before the first one can be recorded.
create table if not exists {schema}.migration (name text primary key, applied_at timestamptz not null default now())
