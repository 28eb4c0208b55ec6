-- Whether the worker may claim from the queue: it is not paused, by an operator or a job, and the worker is known.
-- Evaluated once per claim. `since` is null for a worker that another storage has registered.
not exists (select from {schema}.queue q where q.name = :queue and (q.paused or {in_force}))
 and (:since::bigint is null
      or exists (select from {schema}.worker w where w.id = :worker and {known_worker}))
