-- The jobs are known already.
found (scan, low, priority) as (
    select null::integer, null::bigint, null::bigint where false
)
