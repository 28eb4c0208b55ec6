-- Locked in the order of ids, so that writers do not deadlock.
with picked as (
    select p.id from {schema}.job p where p.id = any(:ids::bigint[]) order by p.id for update
)
update {schema}.job j set limit_key = k.key
  from unnest(:ids::bigint[], :keys::text[]) k(id, key)
 where j.id = k.id and j.id = any(array(select p.id from picked p))
