-- A worker runs the job, or has it parked.
(j.state = 'executing' or coalesce(j.lease > 0, false))
