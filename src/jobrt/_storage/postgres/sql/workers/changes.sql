-- All updates for a worker, in one row. The index on cancel requests is nearly always empty.
select exists (select from {schema}.worker w where w.id = :worker and w.expires_at > statement_timestamp()),
       (select json_agg(json_build_array(c.id, c.lease, c.cancel_reason, c.stop) order by c.id)::text
          from (select j.id, j.lease, j.cancel_reason, {stop} as stop
                  from {schema}.job j
                 where j.worker = :worker and j.state = 'executing' and j.cancel_reason is not null
                union all
                select j.id, j.lease, j.cancel_reason, {stop}
                  from {schema}.waiting w join {schema}.job j on j.id = w.job_id
                 where w.worker = :worker and j.lease > 0 and j.state <> 'executing'
                   and j.cancel_reason is not null) c),
       (select json_agg(json_build_array(j.id, j.lease, n.name))::text
          from {schema}.nursery n join {schema}.job j on j.id = n.job_id
         where n.ending and j.worker = :worker and j.state = 'executing'),
       (select json_agg(json_build_array(q.name, q.paused, q.concurrency) order by q.name)::text
          from {schema}.queue q)
