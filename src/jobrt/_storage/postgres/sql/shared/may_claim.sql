-- Whether the worker may claim from the queue, evaluated once per claim. `since` is null for a worker that another storage
-- has registered.
not exists (select from {schema}.queue q where q.name = :queue and q.paused)
 and (:since::bigint is null
      or exists (select from {schema}.worker w where w.id = :worker and {known_worker}))
