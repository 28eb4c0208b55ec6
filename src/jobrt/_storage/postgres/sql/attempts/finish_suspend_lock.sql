-- Before jobs are suspended: with their rows locked, no child can end and no message can arrive until the commit. The
-- next statement sees those that have.
select j.id from {schema}.job j
 where j.id = any(:ids::bigint[])
 order by j.id desc
   for no key update
