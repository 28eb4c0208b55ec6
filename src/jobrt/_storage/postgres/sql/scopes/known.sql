-- The members with some identities.
select m.identity, m.child_id, m.kind <> 'c' from {schema}.member m
 where m.job_id = :id::bigint and m.nursery = :name and m.identity = any(:identities::text[])
