-- Jobs of workers that are dead or gone, by id. A skip scan visits each worker of each queue, so the running jobs of
-- live workers are not read. A damaged row without a worker is not among them: the index has those together.
with recursive holder (queue, worker) as (
    (select j.queue, j.worker from {schema}.job j where j.state = 'executing' order by j.queue, j.worker limit 1)
    union all
    (select n.queue, n.worker
       from holder h
      cross join lateral (
            select j.queue, j.worker from {schema}.job j
             where j.state = 'executing' and (j.queue, j.worker) > (h.queue, h.worker)
             order by j.queue, j.worker limit 1) n)
)
select o.id
  from (select j.id
          from holder h
          join {schema}.job j on j.queue = h.queue and j.worker = h.worker and j.state = 'executing'
         where not exists (select from {schema}.worker w where w.id = h.worker and w.expires_at > statement_timestamp())
        union all
        select j.id from {schema}.job j where j.state = 'executing' and j.worker is null) o
 where o.id <> all(:but::bigint[])
 order by o.id
 limit :limit::bigint
