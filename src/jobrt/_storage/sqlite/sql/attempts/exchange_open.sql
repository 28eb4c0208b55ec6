-- Whether the worker may claim from the queue. Two index probes per claim, however many jobs it takes. `since` is null for
-- a worker that another storage has registered.
SELECT NOT EXISTS (SELECT 1 FROM jobrt_queue WHERE name = :queue AND paused)
    AND (:since IS NULL OR EXISTS (SELECT 1 FROM jobrt_worker WHERE id = :worker AND {known_worker}));
