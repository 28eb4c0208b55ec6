-- PostgreSQL locks each row before an update, and writes that to its log, if the table has any trigger before updates of
-- rows, whatever its condition. That was a twentieth of what a claim and an end cost. So a job with living children ends
-- first, and is made closing when the statement has written all its rows.
--
-- The condition of a trigger on a column is not evaluated for statements that do not set the column, such as claims.

-- See 0012. Nobody else sees the end: the row stays locked. The triggers of the same job that follow this one find it
-- unfinished again. They are called in the order of their names.
create or replace function {schema}.close_scope() returns trigger language plpgsql set enable_seqscan = off as $$
begin
    if exists (select from {schema}.living l where l.job_id = old.id) then
        insert into {schema}.waiting (job_id, kind, name) values (old.id, 'close', new.state)
            on conflict (job_id) do update
           set kind = 'close', name = excluded.name, since = excluded.since, until = null, worker = null;
        update {schema}.nursery n
           set ending = true, state = case when n.state = 'open' then 'cancelled' else n.state end
         where n.job_id = old.id
           and exists (select from {schema}.living l where l.job_id = old.id and l.nursery = n.name);
        update {schema}.job j
           set state = 'closing', finished_at = null,
               lease = case when j.lease > 0 then null else j.lease end  -- parked, and ended by somebody else
         where j.id = old.id;
        perform pg_notify({channel}, 'c');
    else
        delete from {schema}.waiting w where w.job_id = old.id;
        if new.finished_at is null then
            update {schema}.nursery n set state = 'open', sealed = false, retried = true, deadline = null
             where n.job_id = old.id;
        end if;
    end if;
    return null;
end
$$;

drop trigger close_scope on {schema}.job;
create trigger close_scope after update of finished_at on {schema}.job for each row
    when (old.flags & 16 <> 0 and old.finished_at is null
          and (new.finished_at is not null or new.state = 'retryable' and old.lease > 0 and new.lease < 0))
    execute function {schema}.close_scope();

-- See 0012. A job that is closing has not ended.
create or replace function {schema}.end_member() returns trigger language plpgsql set enable_seqscan = off as $$
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
    if old.flags & 16 <> 0 and (select j.finished_at is null from {schema}.job j where j.id = old.id) then
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

drop trigger end_member on {schema}.job;
create trigger end_member after update of finished_at on {schema}.job for each row
    when (old.flags & 8 <> 0 and old.finished_at is null and new.finished_at is not null)
    execute function {schema}.end_member();

-- See 0006.
drop trigger settle_final on {schema}.job;
create trigger settle_final after update of finished_at on {schema}.job for each row
    when (old.flags & 6 <> 0 and old.finished_at is null and new.finished_at is not null
          and (old.flags & 2 <> 0 or (new.lease = -old.lease) is not true))
    execute function {schema}.settle();

-- See 0007. A job that has living children has not ended: `close_scope` makes it closing, but perhaps later. A claim under
-- limits is a function, in the statement that writes the outcomes. Its update is a statement of its own, whose triggers
-- come before those of the outcomes.
create or replace function {schema}.settle_ended() returns trigger language plpgsql as $$
declare
    ended bigint[] := array(
        select e.id from unnest(nullif(current_setting('jobrt.ended'), '')::bigint[]) e(id)
         where not exists (select from {schema}.living l where l.job_id = e.id));
begin
    perform set_config('jobrt.ended', '', true);
    perform {schema}.end_members(ended);
    perform {schema}.settle_parents(ended);
    return null;
end
$$;

-- After all triggers for rows, and not after an update that one of them makes: the rest of the batch may have to be made
-- closing first.
drop trigger settle_ended on {schema}.job;
create trigger settle_ended after update on {schema}.job for each statement
    when (pg_trigger_depth() = 0 and current_setting('jobrt.ended', true) <> '')
    execute function {schema}.settle_ended();
