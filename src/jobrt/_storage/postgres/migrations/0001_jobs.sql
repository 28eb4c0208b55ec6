-- {schema} is the quoted name of the schema; {literal} is the same for use inside single quotes; {channel} is
-- the channel on which workers are woken, as a literal.

create type {schema}.job_state as enum (
    'scheduled', 'available', 'retryable', 'executing', 'completed', 'cancelled', 'discarded'
);

create sequence {schema}.job_id;
-- One number per claim, shared by its jobs. A number is never used twice, which is all that a fencing token needs.
create sequence {schema}.lease;
create sequence {schema}.term;

-- The hot row. It is written three times (enqueued, claimed, ended), each time as a whole. So it holds only
-- what those three need. Columns are ordered by alignment. A job without errors, results or saved state has no other row.
--   args, metadata: JSON texts. Not jsonb, which cannot hold \u0000, lone surrogates or 1e300 as they were given.
--   lease: that of the running attempt; negated when its outcome is written; null after any other change of state.
--   records: number of attempt records written so far.
--   The defaults of times and state are for COPY: each column that it need not read saves a third of a microsecond.
--   flags: 1 = has a checkpoint or progress, 2 = a caller awaits its end, 4 = another job waits for it.
create table {schema}.job (
    id            bigint not null default nextval('{literal}.job_id'),
    lease         bigint,
    schedule_at   timestamptz not null default statement_timestamp(),
    created_at    timestamptz not null default statement_timestamp(),
    started_at    timestamptz,
    finished_at   timestamptz,
    timeout       double precision,
    priority      integer not null,
    attempt       integer not null default 0,
    max_attempts  integer,
    records       integer not null default 0,
    state         {schema}.job_state not null default 'available',
    flags         smallint not null default 0,
    digest        uuid,
    queue         text not null,
    name          text not null,
    worker        text,
    args          text not null,
    metadata      text,
    tags          text[],
    context       text,
    cancel_reason text,
    primary key (id)
) with (
    -- A third of each page is free for the row versions of claim and outcome: 56 k instead of 50 k jobs/s.
    fillfactor = 70,
    -- Dead versions slow down every claim, so vacuum starts early and is hardly throttled.
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_analyze_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_vacuum_cost_delay = 1,
    autovacuum_vacuum_cost_limit = 2000
);
alter sequence {schema}.job_id owned by {schema}.job.id;

-- For claims, in claim order: queue and priority are fixed, the rest is a range.
create index job_waiting on {schema}.job (queue, priority desc, schedule_at, id)
    where state in ('scheduled', 'available', 'retryable');
-- For the time of the next due job. Jobs enqueued to run immediately, by far the most, are never in it.
create index job_due on {schema}.job (queue, schedule_at) where state in ('scheduled', 'retryable');
-- Running jobs: for rescue, cluster-wide limits, and claims whose reply was lost.
create index job_executing on {schema}.job (queue, worker) where state = 'executing';
-- Cancel requests for running jobs; nearly always empty.
create index job_to_cancel on {schema}.job (worker) where state = 'executing' and cancel_reason is not null;
create index job_digest on {schema}.job (digest) where digest is not null;
-- For pruning and statistics, which skip from name to name. Entries are added in order, at few places of the index.
create index job_finished on {schema}.job (state, name, finished_at) where finished_at is not null;

-- The tables below have no foreign keys to job: those would cost four index probes for every job that pruning deletes,
-- and most jobs have no rows there. A statement that deletes jobs must delete these rows too.

-- Finished attempts that did not end cleanly, or were followed by others.
create table {schema}.attempt (
    job_id      bigint not null,
    lease       bigint not null,
    started_at  timestamptz not null,
    finished_at timestamptz not null,
    number      integer not null,
    "end"       text not null,
    worker      text not null,
    error_type  text,
    message     text,
    traceback   text,
    primary key (job_id, lease)
);
create index attempt_finished on {schema}.attempt using brin (finished_at);

-- Values that are large or rarely read, as JSON texts.
create table {schema}.detail (
    job_id   bigint primary key,
    result   text,
    progress text,
    saved    text
);

create table {schema}.step (
    job_id bigint not null,
    name   text not null,
    value  text not null,
    primary key (job_id, name)
);

-- `parent` waits (scheduled, due at infinity) until its last row here is deleted.
create table {schema}.dependency (
    child  bigint not null,
    parent bigint not null,
    primary key (child, parent)
);
create index dependency_parent on {schema}.dependency (parent);

create table {schema}.worker (
    id         text primary key,
    started_at timestamptz not null,
    beat_at    timestamptz not null,
    expires_at timestamptz not null,
    info       text not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100);

create table {schema}.queue (
    name        text primary key,
    paused      boolean not null default false,
    concurrency integer
);

create table {schema}.leader (
    role       text primary key,
    worker     text not null,
    term       bigint not null,
    expires_at timestamptz not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100);

create table {schema}.cron (
    name       text primary key,
    spec       text not null,
    paused     boolean not null default false,
    last_tick  timestamptz,
    created_at timestamptz not null default statement_timestamp()
);

-- Counts of deleted jobs, so that statistics include them. Each deletion inserts rows. They are summed when they are
-- read and, from time to time, by pruning. Updating rows in place would make deletions wait for each other.
create table {schema}.past (
    hour      timestamptz not null,
    queue     text not null,
    name      text not null,
    enqueued  bigint not null default 0,
    completed bigint not null default 0,
    failed    bigint not null default 0,
    dead      bigint not null default 0,
    cancelled bigint not null default 0,
    seconds   double precision not null default 0,
    histogram bigint[] not null default '{}'
);
create index past_hour on {schema}.past (hour, queue, name);

-- Notifies callers and jobs that wait for a job when it is final or gone. It is a trigger, because this must happen in
-- the same transaction, whatever ended the job. Its condition costs almost nothing for jobs without waiters.
create function {schema}.settle() returns trigger language plpgsql as $$
declare
    ended bigint[];
    waiting bigint;
    its_queue text;
begin
    if old.flags & 2 <> 0 then
        perform pg_notify({channel}, 'f');
    end if;
    if old.flags & 4 <> 0 then
        -- Two children that end at the same time run one after the other, so that the second sees the first gone.
        -- An advisory lock ensures this, not the parent's row: other statements lock rows in the order of ids, and
        -- only the last child locks the parent. A batch locks all its parents at its first child, in one order:
        -- if it locked them child by child, two batches could deadlock.
        ended := nullif(current_setting('jobrt.ended', true), '')::bigint[];
        for waiting in
            select distinct d.parent from {schema}.dependency d where d.child = any(ended || old.id) order by d.parent
        loop
            perform pg_advisory_xact_lock(hashtextextended('{literal}.settle', waiting));
        end loop;
        perform set_config('jobrt.ended', '', true);
        for waiting in select d.parent from {schema}.dependency d where d.child = old.id order by d.parent loop
            delete from {schema}.dependency d where d.child = old.id and d.parent = waiting;
            if not exists (select from {schema}.dependency d where d.parent = waiting) then
                update {schema}.job j set schedule_at = statement_timestamp()
                 where j.id = waiting and j.state = 'scheduled' and j.schedule_at = 'infinity'
                returning j.queue into its_queue;
                if found then
                    perform pg_notify({channel}, 'j:' || its_queue);
                end if;
            end if;
        end loop;
    end if;
    return null;
end
$$;

create trigger settle_final after update on {schema}.job for each row
    when (old.flags & 6 <> 0 and old.finished_at is null and new.finished_at is not null)
    execute function {schema}.settle();
create trigger settle_gone after delete on {schema}.job for each row
    when (old.flags & 6 <> 0 and old.finished_at is null)
    execute function {schema}.settle();

-- Payloads are texts, which a filter has to read as JSON. Characters that jsonb cannot hold are replaced. So different
-- values may compare as equal, but every row can be read. A text that is not JSON gives null and matches nothing.
create function {schema}.as_json(given text) returns jsonb language plpgsql immutable strict parallel safe as $$
begin
    return given::jsonb;
exception when others then
    begin
        return regexp_replace(regexp_replace(regexp_replace(given,
            '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ue000', 'g'),
            '(?<!\\)((?:\\\\)*)\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])', '\1\\ue001', 'g'),
            '(?<!\\u[dD][89abAB][0-9a-fA-F]{2})(?<!\\)((?:\\\\)*)\\u[dD][c-fC-F][0-9a-fA-F]{2}', '\1\\ue001', 'g'
        )::jsonb;
    exception when others then
        return null;
    end;
end
$$;
