-- Durable scopes (design/scopes.md). A job without a family, a wait or a deadline has no row in these tables, and the
-- triggers below do not fire for it: their conditions test flags of the row.
--   flags of a job, beside those of 0001: 8 = has a parent in a nursery, 16 = has had a nursery,
--   32 = asked to stop by its parent, 64 = has a deadline or an expiry, 128 = its deadline has passed.

alter type {schema}.job_state add value if not exists 'suspended';
alter type {schema}.job_state add value if not exists 'closing';

-- `ending`: its members are being ended, and not all of them are over.
create table {schema}.nursery (
    job_id   bigint not null,
    name     text not null,
    cancels  boolean not null,
    state    text not null default 'open',
    reason   text not null default '',
    sealed   boolean not null default false,
    retried  boolean not null default false,
    ending   boolean not null default false,
    deadline timestamptz,
    primary key (job_id, name)
);
create index nursery_ending on {schema}.nursery (job_id) where ending;
create index nursery_untold on {schema}.nursery (job_id) where not sealed and state in ('failed', 'too_slow');
create index nursery_deadline on {schema}.nursery (deadline) where deadline is not null and state = 'open';

-- kind: 'c' = a child; 'd' = a unique job from elsewhere that a nursery asked for; 'o' = enqueued by the job, but
-- independent of it (nursery '').
create table {schema}.member (
    number   bigint generated always as identity,
    job_id   bigint not null,
    child_id bigint not null,
    alive    boolean not null,
    failed   boolean not null default false,
    kind     "char" not null,
    nursery  text not null,
    identity text not null,
    primary key (job_id, nursery, identity)
) with (fillfactor = 80);
create index member_number on {schema}.member (job_id, nursery, number);
create index member_alive on {schema}.member (job_id, nursery, number) where alive;
create index member_child on {schema}.member (child_id) where kind <> 'd';

-- worker: where the job is parked. name of a 'close': the state that the job will have.
create table {schema}.waiting (
    job_id bigint primary key,
    number bigint not null default 0,
    since  timestamptz not null default statement_timestamp(),
    until  timestamptz,
    kind   text not null,
    name   text not null,
    worker text
);
create index waiting_until on {schema}.waiting (until) where until is not null;
create index waiting_worker on {schema}.waiting (worker) where worker is not null;

create table {schema}.answer (
    job_id bigint not null,
    number bigint not null,
    until  timestamptz,
    kind   text not null,
    name   text not null,
    ended  text,
    value  text,
    primary key (job_id, kind, name, number)
);

-- Received messages with a key stay, so that a second one with that key is dropped.
create table {schema}.message (
    id       bigint generated always as identity primary key,
    job_id   bigint not null,
    received boolean not null default false,
    name     text not null,
    key      text,
    value    text not null
);
create index message_next on {schema}.message (job_id, name, id) where not received;
create unique index message_key on {schema}.message (job_id, name, key) where key is not null;

create table {schema}.deadline (
    job_id      bigint primary key,
    deadline_at timestamptz,
    expires_at  timestamptz
);
create index deadline_at on {schema}.deadline (deadline_at) where deadline_at is not null;
create index deadline_expires on {schema}.deadline (expires_at) where expires_at is not null;

-- Whatever makes a job final goes through this trigger, and so does its own failed attempt. If it has living children,
-- it is closing instead, and they are ended. The row of the job is locked here; those of its nurseries and members are
-- changed only by who has locked it.
create function {schema}.close_scope() returns trigger language plpgsql as $$
begin
    if exists (select from {schema}.member m where m.job_id = old.id and m.alive) then
        insert into {schema}.waiting (job_id, kind, name) values (old.id, 'close', new.state)
            on conflict (job_id) do update
           set kind = 'close', name = excluded.name, since = excluded.since, until = null, worker = null;
        update {schema}.nursery n
           set ending = true, state = case when n.state = 'open' then 'cancelled' else n.state end
         where n.job_id = old.id
           and exists (select from {schema}.member m where m.job_id = old.id and m.nursery = n.name and m.alive);
        new.state := 'closing';
        new.finished_at := null;
        if new.lease > 0 then  -- parked, and ended by somebody else
            new.lease := null;
        end if;
        perform pg_notify({channel}, 'c');
    else
        delete from {schema}.waiting w where w.job_id = old.id;
        if new.finished_at is null then
            update {schema}.nursery n set state = 'open', sealed = false, retried = true, deadline = null
             where n.job_id = old.id;
        end if;
    end if;
    return new;
end
$$;

-- A retry counts if it is an outcome of the job itself, which negates the lease. A rescue clears it.
create trigger close_scope before update on {schema}.job for each row
    when (old.flags & 16 <> 0 and old.finished_at is null
          and (new.finished_at is not null or new.state = 'retryable' and old.lease > 0 and new.lease < 0))
    execute function {schema}.close_scope();

-- The end of a child. Its own row is locked, and its parent's is locked here. So descendants are locked before their
-- ancestors.
create function {schema}.end_member() returns trigger language plpgsql as $$
declare
    m record;
    n record;
    p record;
    due boolean;
begin
    select * into m from {schema}.member c where c.child_id = old.id and c.kind = 'c';
    if not found then
        return null;
    end if;
    select * into p from {schema}.job j where j.id = m.job_id for no key update;
    select * into n from {schema}.nursery s where s.job_id = m.job_id and s.name = m.nursery;
    -- A failure is a discard, or a cancellation by somebody else. The job's own has negated the lease, without a request.
    update {schema}.member c
       set alive = false,
           failed = coalesce(n.state = 'open' and n.cancels and tg_op = 'UPDATE' and (
               new.state = 'discarded'
               or new.state = 'cancelled' and not (coalesce(new.lease < 0, false) and old.cancel_reason is null)), false)
     where c.job_id = m.job_id and c.nursery = m.nursery and c.identity = m.identity
    returning c.failed into m.failed;
    if p.id is null then
        return null;
    end if;
    if not exists (select from {schema}.member c where c.job_id = m.job_id and c.nursery = m.nursery and c.alive) then
        update {schema}.nursery s
           set ending = false, state = case when m.failed then 'failed' else s.state end
         where s.job_id = m.job_id and s.name = m.nursery and (s.ending or m.failed);
        update {schema}.job j set state = 'available'
         where j.id = m.job_id and j.state = 'suspended'
           and exists (select from {schema}.waiting w
                        where w.job_id = m.job_id and w.kind = 'children' and w.name = m.nursery);
        if found then
            perform pg_notify({channel}, 'j:' || p.queue);
        end if;
    elsif m.failed then
        update {schema}.nursery s set ending = true, state = 'failed'
         where s.job_id = m.job_id and s.name = m.nursery;
    end if;
    if m.failed then  -- the parent may run in the body, or wait there
        update {schema}.job j set state = 'available'
         where j.id = m.job_id and j.state = 'suspended'
           and exists (select from {schema}.waiting w
                        where w.job_id = m.job_id and not (w.kind = 'children' and w.name = m.nursery));
        if found then
            perform pg_notify({channel}, 'j:' || p.queue);
        end if;
        perform pg_notify({channel}, 'c');
    end if;
    update {schema}.job j set state = 'available'
     where j.id = m.job_id and j.state = 'suspended'
       and exists (select from {schema}.waiting w
                    where w.job_id = m.job_id and w.kind = 'child' and w.name = old.id::text);
    if found then
        perform pg_notify({channel}, 'j:' || p.queue);
    end if;
    if p.state = 'closing' and not exists (select from {schema}.member c where c.job_id = m.job_id and c.alive) then
        perform {schema}.decide_closing(m.job_id);
    end if;
    return null;
end
$$;

-- A closing job without living children takes the state that was decided.
create function {schema}.decide_closing(given bigint) returns void language plpgsql as $$
declare
    decided text;
    found_job record;
begin
    delete from {schema}.waiting w where w.job_id = given and w.kind = 'close' returning w.name into decided;
    update {schema}.job j
       set state = coalesce(decided, 'cancelled')::{schema}.job_state,
           finished_at = case when decided = 'retryable' then null else statement_timestamp() end
     where j.id = given and j.state = 'closing'
    returning j.queue, j.schedule_at <= statement_timestamp() as due into found_job;
    if decided = 'retryable' then
        update {schema}.nursery n set state = 'open', sealed = false, retried = true, ending = false, deadline = null
         where n.job_id = given;
        if found_job.due then
            perform pg_notify({channel}, 'j:' || found_job.queue);
        end if;
    end if;
end
$$;

create trigger end_member after update on {schema}.job for each row
    when (old.flags & 8 <> 0 and old.finished_at is null and new.finished_at is not null)
    execute function {schema}.end_member();

-- Whether a job may be started: no ancestor's nursery is being ended, and it has not expired. Asked only about jobs
-- with such flags. It is volatile, so it sees what was committed after the statement's start.
create function {schema}.may_start(given bigint, given_flags smallint, started boolean)
    returns boolean language plpgsql as $$
declare
    above record;
    current bigint := given;
begin
    if given_flags & 64 <> 0 and not started and exists (
        select from {schema}.deadline d where d.job_id = given and d.expires_at <= clock_timestamp()) then
        return false;
    end if;
    if given_flags & 8 = 0 or not exists (select from {schema}.nursery n where n.ending) then
        return true;
    end if;
    loop
        select m.job_id, n.ending, n.state into above
          from {schema}.member m join {schema}.nursery n on n.job_id = m.job_id and n.name = m.nursery
         where m.child_id = current and m.kind = 'c';
        if not found then
            return true;
        end if;
        if above.ending then
            return false;
        end if;
        current := above.job_id;
    end loop;
end
$$;
