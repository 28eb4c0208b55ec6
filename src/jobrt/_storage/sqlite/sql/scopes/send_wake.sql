UPDATE jobrt_job SET state = 1
WHERE id = :id AND state = 7
    AND EXISTS (SELECT 1 FROM jobrt_waiting WHERE job_id = :id AND kind = 'message' AND name = :name)
RETURNING queue;
