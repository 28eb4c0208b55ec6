-- Jobs that a dead worker has parked: [id, whether it is asked to stop, whether its deadline has passed].
SELECT json_group_array(json_array(j.id, j.cancel_reason IS NOT NULL, j.extra & 128)) FROM (
    SELECT job_id FROM jobrt_waiting
    WHERE worker IS NOT NULL AND worker NOT IN (SELECT id FROM jobrt_worker WHERE expires_at > :now)
        AND job_id NOT IN (SELECT value FROM json_each(:but))
    LIMIT :limit
) AS w JOIN jobrt_job AS j ON j.id = w.job_id;
