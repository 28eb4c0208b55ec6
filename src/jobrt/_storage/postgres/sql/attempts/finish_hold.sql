-- Let no job with the keys of these ones start for some time, or none of their queues, if they have no key. A new bucket
-- is full: it has more parts than any rate allows.
with held as (
    select j.queue, j.limit_key, max(statement_timestamp() + make_interval(secs => o.hold)) as until
      from unnest(:ids::bigint[], :leases::bigint[], :holds::double precision[]) o(id, lease, hold)
      join {schema}.job j on j.id = o.id and j.lease = -o.lease
     group by j.queue, j.limit_key
     order by j.queue, j.limit_key
),
queues as (
    insert into {schema}.queue as q (name, held_until)
    select h.queue, h.until from held h where h.limit_key is null
        on conflict (name) do update set held_until =
               case when q.held_until > statement_timestamp() + interval '1 hour' then excluded.held_until
                    else greatest(q.held_until, excluded.held_until) end
)
insert into {schema}.bucket as b (queue, key, at, parts, unit, held_until, full_at)
select h.queue, h.limit_key, statement_timestamp(), 100000, 1, h.until, statement_timestamp()
  from held h where h.limit_key is not null
    on conflict (queue, key) do update
   set held_until = case when b.held_until > statement_timestamp() + interval '1 hour' then excluded.held_until
                         else greatest(b.held_until, excluded.held_until) end
