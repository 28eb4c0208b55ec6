-- Which members are alive, in a table of its own. An end deletes a row there, and writes no index. As a column of the
-- member, whose rows have long keys, each end had written three indexes: half of what the server paid for a child.
create table {schema}.living (
    child_id bigint primary key,
    job_id   bigint not null,
    nursery  text not null
);
create index living_nursery on {schema}.living (job_id, nursery, child_id);
insert into {schema}.living (child_id, job_id, nursery)
select m.child_id, m.job_id, m.nursery from {schema}.member m where m.alive and m.kind = 'c';
alter table {schema}.member drop column alive;

-- Roles that may change jobs may change it; roles that may read jobs may read it.
do $$
declare
    given record;
begin
    for given in
        select distinct case p.grantee when 'PUBLIC' then 'public' else quote_ident(p.grantee) end as role,
               case p.privilege_type when 'SELECT' then 'select' else 'select, insert, update, delete' end as allowed
          from information_schema.table_privileges p
          join pg_class c on c.oid = '{literal}.member'::regclass
          join pg_namespace n on n.oid = c.relnamespace
         where p.table_schema = n.nspname and p.table_name = 'member' and p.privilege_type in ('UPDATE', 'SELECT')
    loop
        execute 'grant ' || given.allowed || ' on {literal}.living to ' || given.role;
    end loop;
end
$$;

-- Whether a nursery is being ended, asked once for each claim. It is volatile, so it sees what was committed after the
-- statement's start.
create function {schema}.any_ending() returns boolean language plpgsql as $$
begin
    return exists (select from {schema}.nursery n where n.ending);
end
$$;

-- See 0003.
create or replace function {schema}.close_scope() returns trigger language plpgsql as $$
begin
    if exists (select from {schema}.living l where l.job_id = old.id) then
        insert into {schema}.waiting (job_id, kind, name) values (old.id, 'close', new.state)
            on conflict (job_id) do update
           set kind = 'close', name = excluded.name, since = excluded.since, until = null, worker = null;
        update {schema}.nursery n
           set ending = true, state = case when n.state = 'open' then 'cancelled' else n.state end
         where n.job_id = old.id
           and exists (select from {schema}.living l where l.job_id = old.id and l.nursery = n.name);
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

-- See 0007. The search for a living member begins with the newest: those that began first are mostly over, and their
-- entries in the index remain for a while.
create or replace function {schema}.end_members(children bigint[]) returns void language plpgsql as $$
declare
    parents bigint[] := array(select distinct l.job_id from {schema}.living l where l.child_id = any(children));
    ended record;
    its_queue text;
    closing bigint;
begin
    if parents = '{}' then
        return;
    end if;
    perform from {schema}.job j where j.id = any(parents) order by j.id desc for no key update;
    for ended in
        with gone as (
            delete from {schema}.living l
             where l.child_id = any(children)
               and (select j.finished_at is not null from {schema}.job j where j.id = l.child_id)
            returning l.job_id, l.nursery
        )
        select distinct g.job_id, g.nursery from gone g
    loop
        perform from {schema}.living l
          where l.job_id = ended.job_id and l.nursery = ended.nursery
          order by l.child_id desc limit 1;
        continue when found;
        update {schema}.nursery n set ending = false
         where n.job_id = ended.job_id and n.name = ended.nursery and n.ending;
        for its_queue in
            update {schema}.job j set state = 'available'
             where j.id = ended.job_id and j.state = 'suspended'
               and exists (select from {schema}.waiting w
                            where w.job_id = ended.job_id and w.kind = 'children' and w.name = ended.nursery)
            returning j.queue
        loop
            perform pg_notify({channel}, 'j:' || its_queue);
        end loop;
    end loop;
    for its_queue in
        update {schema}.job j set state = 'available'
         where j.id = any(parents) and j.state = 'suspended'
           and exists (select from {schema}.waiting w
                         join {schema}.member m on m.job_id = w.job_id and m.child_id = any(children)
                              and m.kind = 'c' and m.child_id::text = w.name
                        where w.job_id = j.id and w.kind = 'child'
                          and not exists (select from {schema}.living l where l.child_id = m.child_id))
        returning j.queue
    loop
        perform pg_notify({channel}, 'j:' || its_queue);
    end loop;
    for closing in
        select j.id from {schema}.job j
         where j.id = any(parents) and j.state = 'closing'
           and not exists (select from {schema}.living l where l.job_id = j.id)
         order by j.id desc
    loop
        perform {schema}.decide_closing(closing);
    end loop;
end
$$;

-- See 0007.
create or replace function {schema}.end_member() returns trigger language plpgsql as $$
declare
    m record;
    n record;
    p record;
    fails boolean;
begin
    if (new.state = 'completed' and new.lease = -old.lease or new.flags & 32 <> 0 and old.flags & 32 = 0)
       and coalesce(current_setting('jobrt.ended', true), '') <> '' then
        return null;
    end if;
    select * into m from {schema}.member c where c.child_id = old.id and c.kind = 'c';
    if not found then
        return null;
    end if;
    select * into p from {schema}.job j where j.id = m.job_id for no key update;
    select * into n from {schema}.nursery s where s.job_id = m.job_id and s.name = m.nursery;
    -- A failure is a discard, or a cancellation by somebody else. The job's own has negated the lease, without a request.
    fails := coalesce(n.state = 'open' and n.cancels and (
        new.state = 'discarded'
        or new.state = 'cancelled' and not (coalesce(new.lease < 0, false) and old.cancel_reason is null)), false);
    delete from {schema}.living l where l.child_id = old.id;
    if m.failed <> fails then
        update {schema}.member c set failed = fails
         where c.job_id = m.job_id and c.nursery = m.nursery and c.identity = m.identity;
    end if;
    if p.id is null then
        return null;
    end if;
    perform from {schema}.living l
      where l.job_id = m.job_id and l.nursery = m.nursery order by l.child_id desc limit 1;
    if not found then
        update {schema}.nursery s
           set ending = false, state = case when fails then 'failed' else s.state end
         where s.job_id = m.job_id and s.name = m.nursery and (s.ending or fails);
        update {schema}.job j set state = 'available'
         where j.id = m.job_id and j.state = 'suspended'
           and exists (select from {schema}.waiting w
                        where w.job_id = m.job_id and w.kind = 'children' and w.name = m.nursery);
        if found then
            perform pg_notify({channel}, 'j:' || p.queue);
        end if;
    elsif fails then
        update {schema}.nursery s set ending = true, state = 'failed'
         where s.job_id = m.job_id and s.name = m.nursery;
    end if;
    if fails then  -- the parent may run in the body, or wait there
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
    if p.state = 'closing' and not exists (select from {schema}.living l where l.job_id = m.job_id) then
        perform {schema}.decide_closing(m.job_id);
    end if;
    return null;
end
$$;

-- See 0011.
create or replace function {schema}.seal_nursery(
    given bigint, given_lease bigint, given_name text, given_end text, given_reason text)
    returns table (its_state text, its_reason text, is_sealed boolean, is_retried boolean, is_alive boolean,
                   has_members boolean) language plpgsql as $$
begin
    perform from {schema}.job j
      where j.id = given and j.lease = given_lease and j.lease > 0 and j.state = 'executing' for no key update;
    if not found then
        return;
    end if;
    perform from {schema}.living l
      where l.job_id = given and l.nursery = given_name order by l.child_id desc limit 1;
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
