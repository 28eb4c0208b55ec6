-- The attempt records of one job `c`, oldest first, as JSON. Run only for jobs that have records. Texts that are longer
-- than those of jobrt are cut.
(select json_agg(json_build_array(
            a.number, a."end", greatest(least(a.started_at, {last_time}), {first_time}) at time zone 'UTC',
            greatest(least(a.finished_at, {last_time}), {first_time}) at time zone 'UTC',
            a.worker, a.error_type, left(a.message, 11000), right(a.traceback, 51000)) order by a.lease)::text
   from {schema}.attempt a where a.job_id = c.id)
