-- The oldest of the newest that stay, of those that a rule covers.
SELECT finished_at, id FROM jobrt_job INDEXED BY jobrt_job_final
WHERE state > 3 AND state = :state AND name = :name
    AND (:queue IS NULL OR queue = :queue) AND queue NOT IN (SELECT value FROM json_each(:except_queues))
ORDER BY finished_at DESC, id DESC LIMIT 1 OFFSET :skip;
