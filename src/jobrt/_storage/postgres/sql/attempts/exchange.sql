-- Write outcomes and claim new jobs in one statement: one round trip and one commit for both.
--
-- The claim fixes queue and priority and ranges over (schedule_at, id), so it reads due rows only, however many
-- future ones there are. `level` lists the priorities and the starting point in each: `seen_*` are
-- those that the client knows (decisions/001), `found` are those in the gaps between them.
--
-- The ids are collected into an array first. The form `from (select … limit …)` lets the planner run the
-- selection once per row when statistics are stale.
--
-- The claim refers to the outcomes, so that they are written first. They wait for row locks, in the order of ids. The
-- holder of a lock must not wait for a job that this statement has just claimed: that would be a deadlock.
--
-- The first of the picked jobs begin immediately, as many as there are free slots. `picked` is in the order of claims.
-- A claim of large jobs ends before its limit: `affordable` gives the first of those that were picked. The others stay
-- locked until the commit and are claimed next.
--
-- The first row is about the call; the others are jobs in order. Parts that most calls do not need are left out of
-- those calls: each node of a plan costs microseconds before it returns its first row.
with {recursive} {ended},
{found},
{picked},
claimed as (
    update {schema}.job j
       set state = 'executing', lease = {new_lease}, worker = :worker,
           attempt = least(j.attempt, 2147483646) + 1,
           started_at = case when j.id = any(array(select p.id from picked p limit :starting::bigint))
                             then statement_timestamp() end
     where j.id = any({affordable}) and (select count(*) from ended) >= 0
    returning {claimed_columns}
)
(
    select (select count(*) from ended), c.jobs, null::text, 0,
           case when c.jobs < :limit::bigint then (select count(*) from picked)::integer else 0 end, 0,
           {written_if_not_all}, timestamptz_send(statement_timestamp()), null::bytea,
           extract(epoch from clock_timestamp() - statement_timestamp())::double precision,
           null::text,
           (select array_agg(f.scan || ':' || f.priority) from found f where f.priority is not null),
           case when c.jobs < :limit::bigint then extract(epoch from {next_due} - statement_timestamp()) end::text,
           {woken}::text, null::text, null::smallint
      from (select count(*) as jobs from claimed) c
)
union all
select * from (
    {claimed_rows}
) jobs
