-- The last id of a batch of jobs in the order of ids; no row if there are fewer.
select c.id from {schema}.job c where {behind} order by c.id {way} offset :skip::bigint limit 1
