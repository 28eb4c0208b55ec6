-- No outcomes.
ended as (
    select null::bigint as id where false
)
