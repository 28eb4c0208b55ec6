-- Whether the worker may claim from the queue: it is not paused, by an operator or a job, and the worker is known. Two
-- index probes per claim, however many jobs it takes. `since` is null for a worker that another storage has registered.
SELECT NOT EXISTS (SELECT 1 FROM jobrt_queue WHERE name = :queue AND (paused OR {in_force}))
    AND (:since IS NULL OR EXISTS (SELECT 1 FROM jobrt_worker WHERE id = :worker AND {known_worker}));
