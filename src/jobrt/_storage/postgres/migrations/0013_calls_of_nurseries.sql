-- What a nursery asks for, each in one call, as 0011 did it for other waits.

-- Opens a nursery; see ScopeStore.open. No row: the lease is lost. One that was aborted, and whose members are over, is
-- opened again: they may run again in this attempt.
create function {schema}.open_nursery(
    given bigint, given_lease bigint, given_name text, given_cancels boolean, given_seconds double precision)
    returns table (its_state text, its_reason text, is_sealed boolean, is_retried boolean, is_alive boolean,
                   has_members boolean) language plpgsql as $$
declare
    its_flags smallint;
begin
    select j.flags into its_flags from {schema}.job j
     where j.id = given and j.lease = given_lease and j.lease > 0 and j.state = 'executing' for no key update;
    if not found then
        return;
    end if;
    if its_flags & 16 = 0 then
        update {schema}.job j set flags = (j.flags | 16)::smallint where j.id = given;
    else
        update {schema}.member m set attempt = 0
         where m.job_id = given and m.nursery = given_name and m.attempt > 0
           and exists (select from {schema}.nursery n
                        where n.job_id = given and n.name = given_name and n.state = 'aborted' and not n.ending);
    end if;
    insert into {schema}.nursery as n (job_id, name, cancels, deadline)
    values (given, given_name, given_cancels, statement_timestamp() + make_interval(secs => given_seconds))
        on conflict (job_id, name) do update
       set cancels = excluded.cancels,
           deadline = case when n.state = 'open' then coalesce(n.deadline, excluded.deadline)
                           when n.state = 'aborted' and not n.ending then excluded.deadline else n.deadline end,
           sealed = n.sealed and not (n.state = 'aborted' and not n.ending),
           retried = n.retried or (n.state = 'aborted' and not n.ending),
           state = case when n.state = 'aborted' and not n.ending then 'open' else n.state end
    returning n.state, n.reason, n.sealed, n.retried into its_state, its_reason, is_sealed, is_retried;
    perform from {schema}.living l
      where l.job_id = given and l.nursery = given_name order by l.child_id desc limit 1;
    is_alive := found;
    has_members := is_alive or exists (
        select from {schema}.member m where m.job_id = given and m.nursery = given_name);
    return next;
end
$$;

-- Whether a nursery of a job may get children: '' if it may; else 'lost', 'ancestor', 'asked', or the nursery's state. It
-- is volatile, so it sees what was committed before the lock that its caller has waited for.
create function {schema}.lets_in(given bigint, given_name text, its_flags smallint, asked text)
    returns text language plpgsql as $$
declare
    its_state text;
begin
    if not {schema}.may_start(given, (8 & its_flags)::smallint, true) then
        return 'ancestor';
    end if;
    if asked is not null then
        return 'asked';
    end if;
    select n.state into its_state from {schema}.nursery n where n.job_id = given and n.name = given_name;
    return case when not found then 'lost' when its_state = 'open' then '' else its_state end;
end
$$;

-- Adds new children that differ in their payloads only, and returns their ids in order; or why not, as `lets_in` says.
--
-- Everything is written before the parent's row is locked, so that ends of its other children wait for the commit only.
-- Until then nobody sees the new rows. If the parent gets no more children, they are rolled back.
create function {schema}.enqueue_children(
    given bigint, given_lease bigint, given_name text, their_args text[], their_identities text[],
    their_name text, their_queue text, their_priority integer, their_max_attempts integer,
    their_schedule_at timestamptz, their_version smallint, their_context text, told_channel text
) returns table (problem text, ids bigint[]) language plpgsql as $$
declare
    now constant timestamptz := statement_timestamp();
    due constant timestamptz := coalesce(their_schedule_at, statement_timestamp());
    parent record;
begin
    select j.attempt into parent from {schema}.job j
     where j.id = given and j.lease = given_lease and j.lease > 0 and j.state = 'executing';
    if not found then
        return query select 'lost', null::bigint[];
        return;
    end if;
    ids := array(select nextval('{literal}.job_id') from generate_series(1, cardinality(their_args)));
    insert into {schema}.job (id, schedule_at, created_at, priority, max_attempts, state, flags, queue, name, args,
                              context, version)
    select c.id, due, now, their_priority, their_max_attempts,
           (case when due > now then 'scheduled' else 'available' end)::{schema}.job_state, 8, their_queue,
           their_name, c.args, their_context, their_version
      from unnest(ids, their_args) c(id, args);
    insert into {schema}.member (job_id, child_id, kind, nursery, identity, attempt)
    select given, c.id, 'c', given_name, c.identity, parent.attempt from unnest(ids, their_identities) c(id, identity);
    insert into {schema}.living (child_id, job_id, nursery) select c.id, given, given_name from unnest(ids) c(id);
    if told_channel is not null then
        perform pg_notify(told_channel, 'j:' || their_queue);
    end if;
    select j.flags, j.cancel_reason into parent from {schema}.job j
     where j.id = given and j.lease = given_lease and j.lease > 0 and j.state = 'executing' for no key update;
    problem := case when found then {schema}.lets_in(given, given_name, parent.flags, parent.cancel_reason) else 'lost' end;
    if problem <> '' then
        raise sqlstate 'JR001';
    end if;
    return next;
exception when sqlstate 'JR001' then
    return query select problem, null::bigint[];
end
$$;
