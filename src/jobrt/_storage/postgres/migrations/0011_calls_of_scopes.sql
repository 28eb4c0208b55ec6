-- What a job that waits asks for, each in one call: with a transaction of several statements, the way back to its body
-- was five round trips long. The functions are volatile, so that each statement sees what was committed before it.

-- Sends a message; see ScopeStore.send. No row: there is no such job. The row is locked first, so that the job cannot
-- begin to wait between the look and the message.
create function {schema}.send_message(given bigint, given_name text, given_key text, given_value text)
    returns table (found_state text, is_final boolean, is_new boolean, its_queue text) language plpgsql as $$
begin
    select j.state::text, j.finished_at is not null into found_state, is_final
      from {schema}.job j where j.id = given for no key update;
    if not found then
        return;
    end if;
    is_new := false;
    if not is_final and found_state <> 'closing' then
        insert into {schema}.message (job_id, name, key, value) values (given, given_name, given_key, given_value)
            on conflict (job_id, name, key) where key is not null do nothing;
        is_new := found;
    end if;
    if is_new and found_state = 'suspended' then
        update {schema}.job j set state = 'available'
         where j.id = given
           and exists (select from {schema}.waiting w
                        where w.job_id = given and w.kind = 'message' and w.name = given_name)
        returning j.queue into its_queue;
        if found then
            perform pg_notify({channel}, 'j:' || its_queue);
        end if;
    end if;
    return next;
end
$$;

-- Takes the next message of a name; see ScopeStore.receive. No row: the lease is lost.
create function {schema}.receive_message(
    given bigint, given_lease bigint, given_name text, given_number bigint, given_seconds double precision)
    returns table (how text, what text) language plpgsql as $$
declare
    first record;
    too_late boolean;
begin
    perform from {schema}.job j
      where j.id = given and j.lease = given_lease and j.lease > 0 and j.state = 'executing' for no key update;
    if not found then
        return;
    end if;
    insert into {schema}.answer as a (job_id, number, until, kind, name)
    values (given, given_number, statement_timestamp() + make_interval(secs => given_seconds), 'message', given_name)
        on conflict (job_id, kind, name, number) do update set name = excluded.name
    returning a.ended, a.value, coalesce(a.until <= statement_timestamp(), false) into how, what, too_late;
    if how is null then
        select m.id, m.key, m.value into first from {schema}.message m
         where m.job_id = given and m.name = given_name and not m.received order by m.id limit 1;
        if found then
            how := 'message';
            what := first.value;
            if first.key is null then
                delete from {schema}.message m where m.id = first.id;
            else
                update {schema}.message m set received = true, value = 'null' where m.id = first.id;
            end if;
        elsif too_late then
            how := 'too_slow';
        end if;
        if how is not null then
            update {schema}.answer a set ended = how, value = what
             where a.job_id = given and a.kind = 'message' and a.name = given_name and a.number = given_number;
        end if;
    end if;
    how := coalesce(how, '');
    return next;
end
$$;

-- Notes that the body of a nursery has ended; see ScopeStore.seal. No row: the lease is lost, or there is no such
-- nursery. With an end, its living members are ended, if it is open. A cancellation may come from a body that goes on.
-- Once the body has ended, the members that were to run again have been asked for.
create function {schema}.seal_nursery(
    given bigint, given_lease bigint, given_name text, given_end text, given_reason text)
    returns table (its_state text, its_reason text, is_sealed boolean, is_retried boolean, is_alive boolean,
                   has_members boolean) language plpgsql as $$
begin
    perform from {schema}.job j
      where j.id = given and j.lease = given_lease and j.lease > 0 and j.state = 'executing' for no key update;
    if not found then
        return;
    end if;
    perform from {schema}.member m
      where m.job_id = given and m.nursery = given_name and m.alive order by m.number desc limit 1;
    is_alive := found;
    update {schema}.nursery n
       set sealed = n.sealed or given_end is null or (n.state <> 'open' and given_end = 'aborted'),
           retried = n.retried and given_end is not null,
           state = case when n.state = 'open' then coalesce(given_end, 'open') else n.state end,
           reason = case when n.state = 'open' and given_end is not null then given_reason else n.reason end,
           ending = n.ending or (n.state = 'open' and given_end is not null and is_alive)
     where n.job_id = given and n.name = given_name
    returning n.state, n.reason, n.sealed, n.retried into its_state, its_reason, is_sealed, is_retried;
    if not found then
        return;
    end if;
    has_members := is_alive or exists (
        select from {schema}.member m where m.job_id = given and m.nursery = given_name);
    if given_end is not null and is_alive then
        perform pg_notify({channel}, 'c');
    end if;
    return next;
end
$$;
