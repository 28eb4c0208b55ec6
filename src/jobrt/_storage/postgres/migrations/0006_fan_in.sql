-- The ends of children, in sets. Each statement that writes outcomes puts the ids of its batch into the setting
-- jobrt.ended when a job of the batch has a parent. A trigger for the whole statement then releases the parents of all
-- of them. A trigger for each row took 0.2 ms for each child.

-- Releases the parents that have waited only for some of these jobs; jobs that are not over count for nothing.
--
-- Two children that end at the same time run one after the other, so that the second sees the first gone. Advisory
-- locks ensure this, not the parents' rows: other statements lock rows in the order of ids, and only the last child
-- locks the parent. All locks are taken in one order, or two batches could deadlock.
create function {schema}.settle_parents(children bigint[]) returns void language plpgsql as $$
declare
    parents bigint[] := array(select distinct d.parent from {schema}.dependency d
                               where d.child = any(children) order by d.parent);
    its_queue text;
begin
    if parents = '{}' then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('{literal}.settle', p.id)) from unnest(parents) p(id);
    -- A scalar subquery is never made a join: with old statistics that would read the whole table of jobs.
    delete from {schema}.dependency d
     where d.child = any(children)
       and (select j.finished_at is null from {schema}.job j where j.id = d.child) is not true;
    for its_queue in
        update {schema}.job j set schedule_at = statement_timestamp()
         where j.id = any(parents) and j.state = 'scheduled' and j.schedule_at = 'infinity'
           and not exists (select from {schema}.dependency d where d.parent = j.id)
        returning j.queue
    loop
        perform pg_notify({channel}, 'j:' || its_queue);
    end loop;
end
$$;

-- For one job that is final or gone. The lease of an outcome is that of its attempt, negated: settle_ended does those.
create or replace function {schema}.settle() returns trigger language plpgsql as $$
begin
    if old.flags & 2 <> 0 then
        perform pg_notify({channel}, 'f');
    end if;
    if old.flags & 4 <> 0 and (tg_op = 'DELETE' or (new.lease = -old.lease) is not true) then
        perform {schema}.settle_parents(array[old.id]);
    end if;
    return null;
end
$$;

-- An update in another trigger of the same statement may have called it already: then there are no more ids.
create function {schema}.settle_ended() returns trigger language plpgsql as $$
declare
    ended bigint[] := nullif(current_setting('jobrt.ended'), '')::bigint[];
begin
    perform set_config('jobrt.ended', '', true);
    perform {schema}.settle_parents(ended);
    return null;
end
$$;

drop trigger settle_final on {schema}.job;
create trigger settle_final after update on {schema}.job for each row
    when (old.flags & 6 <> 0 and old.finished_at is null and new.finished_at is not null
          and (old.flags & 2 <> 0 or (new.lease = -old.lease) is not true))
    execute function {schema}.settle();
create trigger settle_ended after update on {schema}.job for each statement
    when (current_setting('jobrt.ended', true) <> '')
    execute function {schema}.settle_ended();
