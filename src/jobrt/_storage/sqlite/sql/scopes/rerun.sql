-- Final members of a nursery run again, with a fresh count of attempts.
UPDATE jobrt_job SET state = 1, lease = NULL, attempt = 0, finished_at = NULL, started_at = NULL, cancel_reason = NULL,
    extra = (extra | 1) & ~224
WHERE id IN (SELECT value FROM json_each(:ids)) AND state BETWEEN 4 AND 6
RETURNING id, queue;
