-- One row: the entries are one JSON text, since the values of the job would otherwise be repeated with each.
select case when j.state = 'scheduled' and j.schedule_at <= statement_timestamp() then 'available'
            when j.state = 'executing' and j.started_at is null then 'claimed'
            else j.state::text end,
       j.attempt,
       (select d.progress from {schema}.detail d where d.job_id = j.id),
       coalesce((select s.last from {schema}.stream s where s.job_id = j.id), 0),
       (select json_agg(json_build_array(e.number, (extract(epoch from e.at) * 1000000)::bigint, e.attempt, e.kind,
                                         e.key, e.value) order by e.number)::text
          from {schema}.entry e where e.job_id = j.id and e.number > :after::bigint)
  from {schema}.job j
 where j.id = :id::bigint
