-- Of the jobs that a rule covers, the oldest one that it keeps as one of the newest.
SELECT finished_at, id FROM jobrt_job INDEXED BY jobrt_job_final
WHERE state > 3 AND state = :state AND name = :name
    AND (:queue IS NULL OR queue = :queue) AND queue NOT IN (SELECT value FROM json_each(:except_queues))
ORDER BY finished_at DESC, id DESC LIMIT 1 OFFSET :skip;
