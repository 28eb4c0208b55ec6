-- The highest priority with waiting jobs in each gap between the known ones.
found (scan, low, priority) as (
    {highest_in_gap}
),
-- There may be more priorities between a found one and the next known one. So this claim reads nothing below a found
-- one.
level (scan, priority, at, id) as (
    select k.* from unnest(:seen_scan::integer[], :seen_priority::integer[], :seen_at::timestamptz[],
                           :seen_id::bigint[]) k(scan, priority, at, id)
     where not exists (select from found f where f.scan = k.scan and f.priority > k.priority)
    union all
    select f.scan, max(f.priority), '-infinity', 0 from found f where f.priority is not null group by f.scan
)
