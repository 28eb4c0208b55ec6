-- The first jobs of the names among the due ones after a position. It reads no more than these, if they are enough.
with recursive {levels_from}
select p.priority, p.schedule_at::text, p.id, p.name
  from ({looked_at}) p
 where p.name = any(:names::text[])
 limit :limit::bigint
