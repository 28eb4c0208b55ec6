-- The first final jobs of some states and names in the order of their ends: for each, arrays of times and ids. The
-- index has them in this order.
select f.at, f.ids
  from unnest(:states::text[], :names::text[]) k (state, name)
 cross join lateral (
       select array_agg(h.at) as at, array_agg(h.id) as ids
         from (select {micros} as at, c.id
                 from (select c.finished_at as moment, c.id from {schema}.job c
                        where c.state = k.state::{schema}.job_state and c.name = k.name
                          and c.finished_at is not null{behind}
                        order by c.finished_at {way}, c.id {way} limit :depth::bigint) c) h) f
