-- Jobs whose deadline has passed, or that have not started before their expiry.
select d.job_id, coalesce(d.deadline_at <= statement_timestamp(), false)
  from {schema}.deadline d
 where d.deadline_at <= statement_timestamp() or d.expires_at <= statement_timestamp()
 limit :limit::bigint
