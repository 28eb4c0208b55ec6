-- Stored jobs with these digests, with the values that uniqueness rules need.
select j.id, replace(j.digest::text, '-', ''),
       case when j.state = 'scheduled' and j.schedule_at <= statement_timestamp() then 'available'
            when j.state = 'executing' and j.started_at is null then 'claimed'
            else j.state::text end,
       extract(epoch from statement_timestamp() - j.created_at)::double precision
  from {schema}.job j
 where j.digest = any(:digests::uuid[])
