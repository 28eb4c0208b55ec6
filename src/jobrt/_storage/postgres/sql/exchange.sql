-- Write outcomes and claim new jobs in one statement: one round trip and one commit for both.
--
-- The claim fixes queue and priority and ranges over (schedule_at, id), so it reads due rows only, however many
-- future ones there are. `level` says from where, for each *scan* (one for all names without a cap, one for
-- each capped name): `seen_*` are priorities whose beginning is known to be claimed already (decisions/001),
-- `gap_*` are the ranges of priorities between those, in which others are found by skipping from one to the next.
--
-- The ids are collected into an array first. The form `from (select … limit …)` lets the planner run the
-- selection once per row when statistics are stale. Everything is evaluated lazily: no more rows are locked
-- than a scan may give.
--
-- The first row is about the call, the others are jobs in order.
with recursive {ended},
found (scan, low, priority) as (
    select g.scan, g.low,
           (select j.priority from {schema}.job j
             where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
               and j.priority < g.high and j.priority > g.low
             order by j.priority desc limit 1)
      from unnest(:gap_scan::integer[], :gap_high::bigint[], :gap_low::bigint[]) g(scan, high, low)
    union all
    select f.scan, f.low,
           (select j.priority from {schema}.job j
             where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
               and j.priority < f.priority and j.priority > f.low
             order by j.priority desc limit 1)
      from found f where f.priority is not null
),
level (scan, priority, at, id) as (
    select * from unnest(:seen_scan::integer[], :seen_priority::integer[], :seen_at::timestamptz[], :seen_id::bigint[])
    union all
    select f.scan, f.priority, '-infinity', 0 from found f where f.priority is not null
),
picked as (
    select k.id
      from unnest(:scan_name::text[], :scan_limit::integer[]) with ordinality s(name, most, scan)
      cross join lateral (
          select p.id, p.priority, p.schedule_at
            from (select v.priority, v.at, v.id from level v where v.scan = s.scan order by v.priority desc) l
            cross join lateral (
                select j.id, j.priority, j.schedule_at
                  from {schema}.job j
                 where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
                   and j.priority = l.priority
                   and (j.schedule_at, j.id) > (l.at, l.id) and j.schedule_at <= statement_timestamp()
                   and (j.name = s.name or s.name is null and j.name = any(:names::text[]))
                 order by j.schedule_at, j.id
                 limit s.most
                   for update skip locked
            ) p
           limit s.most
      ) k
     where not exists (select from {schema}.queue q where q.name = :queue and q.paused)
     order by k.priority desc, k.schedule_at, k.id
     limit :limit::bigint
),
claimed as (
    update {schema}.job j
       set state = 'executing', lease = (select nextval('{literal}.lease')), worker = :worker,
           attempt = j.attempt + 1, started_at = statement_timestamp()
     where j.id = any(array(select p.id from picked p))
    returning j.*
)
(
    select (select count(*) from ended), null::bigint, null::text, 0, 0, 0, null::double precision,
           (select json_build_object(
                'jobs', c.jobs,
                'ended', case when (select count(*) from ended) <> :sent::bigint then {written} end,
                'cost', extract(epoch from clock_timestamp() - statement_timestamp()),
                'found', (select json_agg(json_build_array(f.scan, f.priority))
                            from found f where f.priority is not null),
                'woken', (select json_agg(distinct e.queue) from ended e where e.due_at <= statement_timestamp()),
                'next_due', case when c.jobs < :limit::bigint then extract(epoch from least(
                    (select j.schedule_at from {schema}.job j
                      where j.queue = :queue and j.state in ('scheduled', 'retryable')
                        and j.schedule_at > statement_timestamp() and j.schedule_at < 'infinity'
                      order by j.schedule_at limit 1),
                    (select min(e.due_at) from ended e where e.queue = :queue and e.due_at < 'infinity')
                ) - statement_timestamp()) end)::text
              from (select count(*) as jobs from claimed) c),
           null, null, null, statement_timestamp() at time zone 'UTC', null, null, null, null
)
union all
select * from (
    {claimed_rows}
) jobs
