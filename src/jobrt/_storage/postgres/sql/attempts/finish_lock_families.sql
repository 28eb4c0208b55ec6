-- Before outcomes with children are written: lock their jobs and the children, all in the order of ids. One after the
-- other, two parents that wait for each other's kin would cross.
select j.id from {schema}.job j
 where j.id = any(:ids::bigint[])
 order by j.id
   for update
