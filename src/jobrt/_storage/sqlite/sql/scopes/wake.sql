UPDATE jobrt_job SET state = 1
WHERE id = :id AND state = 7
    AND EXISTS (SELECT 1 FROM jobrt_waiting WHERE job_id = :id AND (
        kind = 'children' AND name = :name
        OR kind = 'child' AND CAST(name AS INTEGER) IN (SELECT value FROM json_each(:children))))
RETURNING queue;
