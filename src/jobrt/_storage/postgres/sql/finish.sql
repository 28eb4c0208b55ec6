-- Outcomes without a claim. How many landed is all that is asked in the usual case; only if it is not as many
-- as were sent is it told which, and landed.sql looks at the others.
with {ended}
select count(*), case when count(*) <> :sent::bigint then json_agg(json_build_array(e.id, e.lease))::text end,
       array_agg(distinct e.queue) filter (where e.due_at <= statement_timestamp())
  from ended e
