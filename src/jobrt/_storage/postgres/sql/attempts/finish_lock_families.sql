-- Before outcomes with children are written, lock their jobs and the children, all in the order of ids. If families
-- were locked one after the other, two batches with related jobs could deadlock.
select j.id from {schema}.job j
 where j.id = any(:ids::bigint[])
 order by j.id
   for update
