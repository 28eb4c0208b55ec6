-- What decides about claims of a limited queue. There may be no row for it.
SELECT :since IS NULL OR EXISTS (SELECT 1 FROM jobrt_worker WHERE id = :worker AND {known_worker}),
    max(paused), max(held_until) FILTER (WHERE {in_force}), max(turn), max(key),
    EXISTS (SELECT 1 FROM jobrt_bucket WHERE queue = :queue AND key <> '')
FROM jobrt_queue WHERE name = :queue;
