-- The attempt records of one job `c`, oldest first, as JSON. Run only for jobs that have records.
(select json_agg(json_build_array(a.number, a."end", a.started_at at time zone 'UTC', a.finished_at at time zone 'UTC',
                                  a.worker, a.error_type, a.message, a.traceback) order by a.lease)::text
   from {schema}.attempt a where a.job_id = c.id)
