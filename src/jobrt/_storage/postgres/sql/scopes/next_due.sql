select extract(epoch from least(
           (select min(w.until) from {schema}.waiting w where w.until is not null),
           (select min(n.deadline) from {schema}.nursery n where n.deadline is not null and n.state = 'open'),
           (select min(d.deadline_at) from {schema}.deadline d where d.deadline_at is not null),
           (select min(d.expires_at) from {schema}.deadline d where d.expires_at is not null)
       ) - statement_timestamp())::double precision,
       exists (select from {schema}.nursery n where n.ending)
