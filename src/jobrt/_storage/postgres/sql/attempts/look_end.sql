-- The position of the last of the :look due jobs after a position, or nothing if there are fewer.
with recursive {levels_from}
select p.priority, p.schedule_at::text, p.id
  from ({looked_at}) p
offset :look::bigint - 1 limit 1
