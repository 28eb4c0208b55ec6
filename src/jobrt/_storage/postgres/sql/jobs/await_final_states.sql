select j.id, case when j.state = 'scheduled' and j.schedule_at <= statement_timestamp() then 'available'
                  when j.state = 'executing' and j.started_at is null then 'claimed'
                  else j.state::text end
  from {schema}.job j
 where j.id = any(:ids::bigint[])
