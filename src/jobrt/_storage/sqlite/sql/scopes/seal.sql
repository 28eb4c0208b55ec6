-- The body of a nursery has ended. With an end, its living members are ended, if it is open. A cancellation may come
-- from a body that goes on. Once the body has ended, the members that were to run again have been asked for.
UPDATE jobrt_nursery SET
    sealed = sealed OR :ended IS NULL OR (state <> 'open' AND :ended = 'aborted'),
    retried = retried AND :ended IS NOT NULL,
    reason = CASE WHEN state = 'open' AND :ended IS NOT NULL THEN :reason ELSE reason END,
    ending = ending OR (state = 'open' AND :ended IS NOT NULL AND EXISTS (
        SELECT 1 FROM jobrt_member AS m WHERE m.job_id = :id AND m.nursery = :name AND m.alive = 1)),
    state = CASE WHEN state = 'open' THEN coalesce(:ended, 'open') ELSE state END
WHERE job_id = :id AND name = :name;
