-- Jobs that a dead worker has parked.
select w.job_id from {schema}.waiting w
 where w.worker is not null
   and not exists (select from {schema}.worker k where k.id = w.worker and k.expires_at > statement_timestamp())
   and w.job_id <> all(:but::bigint[])
 limit :limit::bigint
