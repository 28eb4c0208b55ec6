-- What jobs log and emit (design/stream.md). Only jobs that did so have rows here.
--   A flag of a job, beside those of other migrations: 1024 = somebody follows it.
--   lease, batch: of the last batch, so that one whose reply was lost is stored once.
--   last, bytes: the number of the newest entry, and the bytes of all entries so far, those that were trimmed included.
create table {schema}.stream (
    job_id bigint primary key,
    lease  bigint not null,
    batch  bigint not null,
    last   bigint not null,
    bytes  bigint not null
) with (fillfactor = 50);

-- start: the bytes of all entries before this one.
create table {schema}.entry (
    job_id  bigint not null,
    number  bigint not null,
    start   bigint not null,
    at      timestamptz not null,
    attempt integer not null,
    kind    text not null,
    key     text,
    value   text not null,
    primary key (job_id, number)
);

create table {schema}.entry_key (
    job_id bigint not null,
    key    text not null,
    primary key (job_id, key)
);

-- Request notifications about a job. A claim skips a job whose row is locked, and nothing else would wake its queue
-- again. So the queue is returned if the job could run, to be woken after the commit. The function has the rights of
-- its owner, because roles that may only read may follow jobs, too.
create function {schema}.follow(given bigint) returns text language sql security definer
    set search_path = pg_catalog, pg_temp as $$
    with flagged as (
        update {schema}.job j set flags = (j.flags | 1024)::smallint
         where j.id = given and j.finished_at is null and j.flags & 1024 = 0
        returning j.queue, j.state, j.schedule_at
    )
    select f.queue from flagged f
     where f.state in ('scheduled', 'available', 'retryable') and f.schedule_at <= statement_timestamp()
$$;

create function {schema}.tell_followers() returns trigger language plpgsql as $$
begin
    perform pg_notify({channel}, 's:' || old.id);
    return null;
end
$$;

-- The first part of the condition is false for nearly all jobs, and costs next to nothing.
create trigger followed_changed after update on {schema}.job for each row
    when (old.flags & 1024 <> 0 and (new.state <> old.state or new.attempt <> old.attempt
                                     or new.started_at is distinct from old.started_at))
    execute function {schema}.tell_followers();
create trigger followed_gone after delete on {schema}.job for each row
    when (old.flags & 1024 <> 0)
    execute function {schema}.tell_followers();

-- Roles that may read jobs may follow them.
revoke execute on function {schema}.follow(bigint) from public;
do $$
declare
    role text;
begin
    for role in
        select distinct case p.grantee when 'PUBLIC' then 'public' else quote_ident(p.grantee) end
          from information_schema.table_privileges p
          join pg_class c on c.oid = '{literal}.job'::regclass
          join pg_namespace n on n.oid = c.relnamespace
         where p.table_schema = n.nspname and p.table_name = 'job' and p.privilege_type = 'SELECT'
    loop
        execute 'grant execute on function {literal}.follow(bigint) to ' || role;
        execute 'grant select on {literal}.stream, {literal}.entry to ' || role;
    end loop;
end
$$;
