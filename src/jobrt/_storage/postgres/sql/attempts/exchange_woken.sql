(select json_agg(distinct e.queue) from ended e where e.due_at <= statement_timestamp())
