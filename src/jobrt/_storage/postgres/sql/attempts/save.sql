-- What several running jobs save. The row locks hold off a rescue until it is written; they are taken in the order of
-- ids. {skip}: of several, those that somebody else has locked are left out, and are then written one by one. So none of
-- them waits for the row of another job.
--
-- The flag is set once, so later saves leave the row alone. A job may save more than once here: the last value of each
-- kind counts, but the first of a step, since a step that two attempts have finished has one result.
with given as materialized (
    select o.* from unnest(:ids::bigint[], :leases::bigint[], :progress::text[], :saved::text[], :steps::text[],
                           :results::text[]) with ordinality o(id, lease, progress, saved, step, result, number)
),
held as (
    select j.id, j.flags, g.number, g.progress, g.saved, g.step, g.result
      from {schema}.job j join given g on g.id = j.id and g.lease = j.lease
     where j.lease > 0
     order by j.id
       for no key update of j {skip}
),
flagged as (
    update {schema}.job j set flags = (j.flags | 1)::smallint
     where j.id in (select h.id from held h where h.flags & 1 = 0)
),
stored as (
    insert into {schema}.detail as d (job_id, progress, saved)
    select h.id, (array_agg(h.progress order by h.number desc) filter (where h.progress is not null))[1],
           (array_agg(h.saved order by h.number desc) filter (where h.saved is not null))[1]
      from held h where h.step is null group by h.id order by h.id
        on conflict (job_id) do update
       set progress = coalesce(excluded.progress, d.progress), saved = coalesce(excluded.saved, d.saved)
),
finished as (
    insert into {schema}.step (job_id, name, value)
    select h.id, h.step, h.result from held h where h.step is not null order by h.id, h.step, h.number
        on conflict do nothing
)
select h.number, case when h.flags & 1024 <> 0 and h.progress is not null then pg_notify({channel}, 's:' || h.id) end
  from held h
