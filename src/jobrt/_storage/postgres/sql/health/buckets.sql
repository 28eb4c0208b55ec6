-- Tokens of some keys, with times relative to now in microseconds, and the hold of the queue under null.
select b.key, greatest((extract(epoch from b.at) - n.at) * 1000000, -1e15)::bigint, b.parts, b.unit,
       greatest(least((extract(epoch from b.held_until) - n.at) * 1000000, 1e15), -1e15)::bigint
  from {schema}.bucket b cross join (select extract(epoch from statement_timestamp()) as at) n
 where b.queue = :queue and b.key = any(:keys::text[]) and isfinite(b.at)
union all
select null, 0, null, null, ((extract(epoch from q.held_until) - extract(epoch from statement_timestamp())) * 1000000)::bigint
  from {schema}.queue q where q.name = :queue and {in_force}
