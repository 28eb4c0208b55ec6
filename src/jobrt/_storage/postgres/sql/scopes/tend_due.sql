-- Jobs for which something is due: a wait whose time is over, a nursery whose deadline has passed, or their own deadline
-- or expiry.
(select 'wait', w.job_id from {schema}.waiting w
  where w.until <= statement_timestamp() and w.job_id <> all(:but::bigint[])
  order by w.until limit :limit::bigint)
union all
(select distinct 'nursery', n.job_id from {schema}.nursery n
  where n.deadline <= statement_timestamp() and n.state = 'open' and n.job_id <> all(:but::bigint[])
  limit :limit::bigint)
union all
(select 'job', d.job_id from {schema}.deadline d
  where (d.deadline_at <= statement_timestamp() or d.expires_at <= statement_timestamp())
    and d.job_id <> all(:but::bigint[])
  limit :limit::bigint)
