-- The condition for jobs that have a text. The collation "C" knows the letters of ASCII alone, as SQLite does. `strpos`
-- has no wildcards.
 and (strpos(lower(c.name collate "C"), :plain::text) > 0
      or strpos(lower(left(c.args, :payload::integer) collate "C"), :escaped::text) > 0
      or strpos(lower(left(c.args, :payload::integer) collate "C"), :ascii::text) > 0
      or c.records > 0 and exists (
         select from {schema}.attempt a where a.job_id = c.id
            and (strpos(lower(a.error_type collate "C"), :plain::text) > 0
                 or strpos(lower(a.message collate "C"), :plain::text) > 0)))
