-- Wake a job that waits in the body of a nursery that is now being ended, or anywhere else in that run.
UPDATE jobrt_job SET state = 1
WHERE id = :id AND state = 7
    AND EXISTS (SELECT 1 FROM jobrt_waiting WHERE job_id = :id AND NOT (kind = 'children' AND name = :name))
RETURNING queue;
