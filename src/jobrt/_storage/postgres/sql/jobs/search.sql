-- Of the newest :scan jobs that match a filter, those that have a text; how many were looked at, and the oldest of them.
-- The collation "C" knows the letters of ASCII alone, as SQLite does. `strpos` has no wildcards.
with looked as materialized (
     select c.id, c.name, left(c.args, :payload::integer) as args, c.records from {schema}.job c
      where {where} order by c.id desc limit :scan::bigint
),
found as (
     select l.id from looked l
      where strpos(lower(l.name collate "C"), :plain::text) > 0
         or strpos(lower(l.args collate "C"), :escaped::text) > 0 or strpos(lower(l.args collate "C"), :ascii::text) > 0
         or l.records > 0 and exists (
            select from {schema}.attempt a where a.job_id = l.id
               and (strpos(lower(a.error_type collate "C"), :plain::text) > 0
                    or strpos(lower(a.message collate "C"), :plain::text) > 0))
      order by l.id desc limit :limit::bigint
)
select array(select f.id from found f order by f.id desc), count(*), min(l.id) from looked l
