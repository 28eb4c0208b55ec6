-- Outcomes without a claim. How many were written is all that is asked in the usual case; only if it is not as many
-- as were sent is it told which.
with {ended}
select count(*), case when count(*) <> :sent::bigint then {written}::text end,
       array_agg(distinct e.queue) filter (where e.due_at <= statement_timestamp())
  from ended e
