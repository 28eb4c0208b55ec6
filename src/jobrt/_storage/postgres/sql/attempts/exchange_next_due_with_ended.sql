-- The statement's snapshot does not contain jobs that it has just postponed.
least({next_due_of_queue},
      (select min(e.due_at) from ended e where e.queue = :queue and e.due_at > '-infinity' and e.due_at < 'infinity'))
