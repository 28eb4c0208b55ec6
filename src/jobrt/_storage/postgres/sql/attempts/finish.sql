-- Outcomes without a claim. Usually only their number is returned; if some were not written, the written ones are
-- listed.
with {ended}
select count(*), case when count(*) <> :sent::bigint then {written}::text end,
       array_agg(distinct e.queue) filter (where e.due_at <= statement_timestamp())
  from ended e
