-- The ends of children of nurseries, in sets, as 0006 does it for jobs that wait for others. The trigger for each row
-- locked the parent for each child, and looked for a living member behind all that had ended: 1.3 ms for each of 5,000.

-- Notes those of these jobs that are over as members that have ended well, or in a nursery that is being ended: none of
-- them counts as a failure. The parents' rows are locked first, in the order of all that locks several for scopes. The
-- search for a living member begins with the newest: those that began first are mostly over, and their entries in the
-- index remain for a while.
create function {schema}.end_members(children bigint[]) returns void language plpgsql as $$
declare
    parents bigint[] := array(select distinct m.job_id from {schema}.member m
                               where m.child_id = any(children) and m.kind = 'c' and m.alive);
    ended record;
    its_queue text;
    closing bigint;
begin
    if parents = '{}' then
        return;
    end if;
    perform from {schema}.job j where j.id = any(parents) order by j.id desc for no key update;
    for ended in
        with changed as (
            update {schema}.member m set alive = false
             where m.child_id = any(children) and m.kind = 'c' and m.alive
               and (select j.finished_at is not null from {schema}.job j where j.id = m.child_id)
            returning m.job_id, m.nursery
        )
        select distinct c.job_id, c.nursery from changed c
    loop
        perform from {schema}.member m
          where m.job_id = ended.job_id and m.nursery = ended.nursery and m.alive
          order by m.number desc limit 1;
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
                              and m.kind = 'c' and not m.alive and m.child_id::text = w.name
                        where w.job_id = j.id and w.kind = 'child')
        returning j.queue
    loop
        perform pg_notify({channel}, 'j:' || its_queue);
    end loop;
    for closing in
        select j.id from {schema}.job j
         where j.id = any(parents) and j.state = 'closing'
           and not exists (select from {schema}.member m where m.job_id = j.id and m.alive)
         order by j.id desc
    loop
        perform {schema}.decide_closing(closing);
    end loop;
end
$$;

-- The end of a child that may be a failure, or that a statement of an older worker wrote. Its own row is locked, and its
-- parent's is locked here. So descendants are locked before their ancestors.
--
-- `settle_ended` does the others: clean outcomes, which negate the lease, and members that are ended by their parent.
create or replace function {schema}.end_member() returns trigger language plpgsql as $$
declare
    m record;
    n record;
    p record;
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
    update {schema}.member c
       set alive = false,
           failed = coalesce(n.state = 'open' and n.cancels and (
               new.state = 'discarded'
               or new.state = 'cancelled' and not (coalesce(new.lease < 0, false) and old.cancel_reason is null)), false)
     where c.job_id = m.job_id and c.nursery = m.nursery and c.identity = m.identity
    returning c.failed into m.failed;
    if p.id is null then
        return null;
    end if;
    perform from {schema}.member c
      where c.job_id = m.job_id and c.nursery = m.nursery and c.alive
      order by c.number desc limit 1;
    if not found then
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

-- As in 0006, and for nurseries: their parents' rows are locked before the advisory locks, as the trigger for each row
-- did it.
create or replace function {schema}.settle_ended() returns trigger language plpgsql as $$
declare
    ended bigint[] := nullif(current_setting('jobrt.ended'), '')::bigint[];
begin
    perform set_config('jobrt.ended', '', true);
    perform {schema}.end_members(ended);
    perform {schema}.settle_parents(ended);
    return null;
end
$$;
