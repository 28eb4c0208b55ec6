-- Jobs whose deadline has passed, or that have not started before their expiry:
-- [id, deadline passed, state, held by a worker, attempt, start, worker, whether it has a deadline].
SELECT json_group_array(json_array(d.job_id, ifnull(d.deadline_at <= :now, 0), j.state,
    j.state = 3 OR (j.state < 3 OR j.state = 7) AND ifnull(j.lease > 0, 0), j.attempt, j.started_at, j.worker,
    d.deadline_at IS NOT NULL))
FROM (
    SELECT * FROM jobrt_deadline WHERE deadline_at IS NOT NULL AND deadline_at <= :now
        AND job_id NOT IN (SELECT value FROM json_each(:but))
    UNION SELECT * FROM jobrt_deadline WHERE expires_at IS NOT NULL AND expires_at <= :now
        AND job_id NOT IN (SELECT value FROM json_each(:but))
    LIMIT :limit
) AS d JOIN jobrt_job AS j ON j.id = d.job_id;
