-- The body of a nursery has ended. With an end, its living members are ended, if it is open. A cancellation may come
-- from a body that goes on. Once the body has ended, the members that were to run again have been asked for.
update {schema}.nursery n
   set sealed = n.sealed or :ended::text is null or (n.state <> 'open' and :ended::text = 'aborted'),
       retried = n.retried and :ended::text is not null,
       state = case when n.state = 'open' then coalesce(:ended, 'open') else n.state end,
       reason = case when n.state = 'open' and :ended::text is not null then :reason else n.reason end,
       ending = n.ending or (n.state = 'open' and :ended::text is not null and exists (
           select from {schema}.member m where m.job_id = n.job_id and m.nursery = n.name and m.alive))
 where n.job_id = :id::bigint and n.name = :name
