SELECT min(at) FROM (
    SELECT min(until) AS at FROM jobrt_waiting WHERE until IS NOT NULL
    UNION ALL SELECT min(deadline) FROM jobrt_nursery WHERE deadline IS NOT NULL AND state = 'open'
    UNION ALL SELECT min(deadline_at) FROM jobrt_deadline WHERE deadline_at IS NOT NULL
    UNION ALL SELECT min(expires_at) FROM jobrt_deadline WHERE expires_at IS NOT NULL
);
