-- The jobs that a rule covers and does not keep: old enough, and older than the newest kept ones. A range of the
-- index. A child goes with its parent.
SELECT json_group_array(id) FROM (
    SELECT id FROM jobrt_job INDEXED BY jobrt_job_final
    WHERE state > 3 AND state = :state AND name = :name
        AND finished_at < :before AND (finished_at, id) < (:kept_at, :kept_id)
        AND (:queue IS NULL OR queue = :queue) AND queue NOT IN (SELECT value FROM json_each(:except_queues))
        AND (extra & 8 = 0 OR NOT EXISTS (
            SELECT 1 FROM jobrt_member AS m WHERE m.child_id = jobrt_job.id AND m.kind <> 'd' AND m.kind = 'c'))
        AND id NOT IN (SELECT value FROM json_each(:but))
    ORDER BY finished_at, id LIMIT :limit
);
