-- A nursery that was aborted, and whose members are over, is opened again.
INSERT INTO jobrt_nursery (job_id, name, cancels, deadline) VALUES (:id, :name, :cancels, :deadline)
ON CONFLICT (job_id, name) DO UPDATE SET
    cancels = excluded.cancels,
    deadline = CASE WHEN state = 'open' THEN coalesce(deadline, excluded.deadline)
                    WHEN state = 'aborted' AND NOT ending THEN excluded.deadline ELSE deadline END,
    sealed = sealed AND NOT (state = 'aborted' AND NOT ending),
    retried = retried OR (state = 'aborted' AND NOT ending),
    state = CASE WHEN state = 'aborted' AND NOT ending THEN 'open' ELSE state END;
