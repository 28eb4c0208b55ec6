-- The row lock holds off a rescue until this is written. The flag is set once, so later saves leave the row alone.
with held as (
    select j.id, j.flags from {schema}.job j
     where j.id = :id::bigint and j.lease = :lease::bigint and j.lease > 0
       for no key update
),
flagged as (
    update {schema}.job j set flags = (j.flags | 1)::smallint
      from held h where j.id = h.id and h.flags & 1 = 0
),
stored as (
    insert into {schema}.detail as d (job_id, progress, saved)
    select h.id, :progress, :saved from held h
        on conflict (job_id) do update
       set progress = coalesce(excluded.progress, d.progress), saved = coalesce(excluded.saved, d.saved)
)
select h.id from held h
