select extract(epoch from least(
           (select min(w.until) from {schema}.waiting w where w.until is not null and w.job_id <> all(:but::bigint[])),
           (select min(n.deadline) from {schema}.nursery n where n.deadline is not null and n.state = 'open' and n.job_id <> all(:but::bigint[])),
           (select min(d.deadline_at) from {schema}.deadline d where d.deadline_at is not null and d.job_id <> all(:but::bigint[])),
           (select min(d.expires_at) from {schema}.deadline d where d.expires_at is not null and d.job_id <> all(:but::bigint[]))
       ) - statement_timestamp())::double precision,
       exists (select from {schema}.nursery n where n.ending)
