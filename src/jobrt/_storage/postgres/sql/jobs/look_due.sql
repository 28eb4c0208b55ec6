-- The first waiting jobs of some queues and priorities in the order of their due times: for each, arrays of times and
-- ids. The index for claims has them in this order.
select f.at, f.ids
  from unnest(:queues::text[], :priorities::integer[]) k (queue, priority)
 cross join lateral (
       select array_agg(h.at) as at, array_agg(h.id) as ids
         from (select {micros} as at, c.id
                 from (select c.schedule_at as moment, c.id from {schema}.job c
                        where c.state in ('scheduled', 'available', 'retryable')
                          and c.queue = k.queue and c.priority = k.priority{behind}
                        order by c.schedule_at {way}, c.id {way} limit :depth::bigint) c) h) f
