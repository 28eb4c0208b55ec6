-- What a batch of children costs when it ends, and when it is enqueued.

-- Members are read in the order of their identities, page by page, and sorted by who reads them. Only those that failed
-- are found in their order.
drop index {schema}.member_number;
create index member_failed on {schema}.member (job_id, nursery, number) where failed;

-- See 0006 and 0017. Each job of a batch was looked for among the parents of living members. Only those that have had a
-- nursery are now, where the row is read in any case.
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

-- A job that has ended, and has living children, will be closing at the end of the statement: it counts as unfinished.
do $$
declare
    closes constant text := '(j.flags & 16 <> 0 and exists (select from {literal}.living o where o.job_id = j.id))';
    its_text text;
begin
    for its_text in
        select replace(replace(pg_get_functiondef(p.oid),
                       'j.finished_at is not null from', 'j.finished_at is not null and not ' || closes || ' from'),
                       'j.finished_at is null from', 'j.finished_at is null or ' || closes || ' from')
          from pg_proc p
         where p.pronamespace = (select c.relnamespace from pg_class c where c.oid = '{literal}.job'::regclass)
           and p.proname in ('end_members', 'settle_parents')
    loop
        execute its_text;
    end loop;
end
$$;
