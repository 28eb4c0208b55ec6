-- The first ids of jobs in some order of ids.
select array(select c.id from {from} {behind} order by {key} {way} limit :depth::bigint)
