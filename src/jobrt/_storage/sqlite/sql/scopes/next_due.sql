SELECT min(at) FROM (
    SELECT min(until) AS at FROM jobrt_waiting WHERE until IS NOT NULL AND job_id NOT IN (SELECT value FROM json_each(:but))
    UNION ALL SELECT min(deadline) FROM jobrt_nursery WHERE deadline IS NOT NULL AND state = 'open' AND job_id NOT IN (SELECT value FROM json_each(:but))
    UNION ALL SELECT min(deadline_at) FROM jobrt_deadline WHERE deadline_at IS NOT NULL AND job_id NOT IN (SELECT value FROM json_each(:but))
    UNION ALL SELECT min(expires_at) FROM jobrt_deadline WHERE expires_at IS NOT NULL AND job_id NOT IN (SELECT value FROM json_each(:but))
);
