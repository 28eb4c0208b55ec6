-- Jobs that this statement has just put off are not in its snapshot.
least({next_due_of_queue},
      (select min(e.due_at) from ended e where e.queue = :queue and e.due_at < 'infinity'))
