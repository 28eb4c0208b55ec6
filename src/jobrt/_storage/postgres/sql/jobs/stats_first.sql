-- Approximately the first id that was created since a time, by binary search: ids grow with the creation time. An
-- index on that time would slow down every insert.
with recursive half (low, high, step) as (
    select (select min(j.id) from {schema}.job j), (select max(j.id) + 1 from {schema}.job j), 0
    union all
    select case when m.created_at < :since::timestamptz then m.id + 1 else h.low end,
           case when m.created_at < :since::timestamptz then h.high else h.low + (h.high - h.low) / 2 end,
           h.step + 1
      from half h
     cross join lateral (select j.id, j.created_at from {schema}.job j
                          where j.id >= h.low + (h.high - h.low) / 2 order by j.id limit 1) m
     where h.low < h.high and h.step < 70
)
-- The margin: ids of concurrent transactions may be out of order by as many jobs as are enqueued meanwhile.
select h.low - 100000 from half h order by h.step desc limit 1
