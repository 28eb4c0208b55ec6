-- All updates for a worker, in one row. The index on cancel requests is nearly always empty, and few jobs are parked or
-- have an ending nursery, whatever the planner expects: `offset 0` keeps it from reading all jobs that the worker runs.
select exists (select from {schema}.worker w where w.id = :worker and w.expires_at > statement_timestamp()),
       (select json_agg(json_build_array(c.id, c.lease, c.cancel_reason, c.stop) order by c.id)::text
          from (select j.id, j.lease, j.cancel_reason, {stop} as stop
                  from {schema}.job j
                 where j.worker = :worker and j.state = 'executing' and j.cancel_reason is not null
                union all
                select p.*
                  from {schema}.waiting w
                 cross join lateral (
                       select j.id, j.lease, j.cancel_reason, {stop}
                         from {schema}.job j
                        where j.id = w.job_id and j.lease > 0 and j.state <> 'executing'
                          and j.cancel_reason is not null
                       offset 0) p
                 where w.worker = :worker) c),
       (select json_agg(json_build_array(p.id, p.lease, n.name))::text
          from (select e.job_id, e.name from {schema}.nursery e where e.ending
                union
                select u.job_id, u.name from {schema}.nursery u
                 where not u.sealed and u.state in ('failed', 'too_slow')) n
         cross join lateral (
               select j.id, j.lease from {schema}.job j
                where j.id = n.job_id and j.worker = :worker and j.lease > 0
                  and j.state in ('executing', 'available', 'suspended')
               offset 0) p),
       (select json_agg(json_build_array(q.name, q.paused, q.concurrency) order by q.name)::text
          from {schema}.queue q)
