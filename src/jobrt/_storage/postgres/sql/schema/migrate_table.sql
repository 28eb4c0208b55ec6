-- Apart from the migrations, because it has to be there before the first of them can be noted.
create table if not exists {schema}.migration (name text primary key, applied_at timestamptz not null default now())
