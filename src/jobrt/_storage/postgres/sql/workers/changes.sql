-- All updates for a worker, in one row. The index on cancel requests is nearly always empty.
select exists (select from {schema}.worker w where w.id = :worker and w.expires_at > statement_timestamp()),
       (select json_agg(json_build_array(j.id, j.lease, j.cancel_reason) order by j.id)::text
          from {schema}.job j
         where j.worker = :worker and j.state = 'executing' and j.cancel_reason is not null),
       (select json_agg(json_build_array(q.name, q.paused, q.concurrency) order by q.name)::text
          from {schema}.queue q)
