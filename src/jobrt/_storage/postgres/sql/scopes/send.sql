-- Send a message, and wake the job, if it waits for one.
select s.found_state, s.is_final, s.is_new, s.its_queue
  from {schema}.send_message(:id::bigint, :name, :key, :value) s
