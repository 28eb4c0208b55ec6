SELECT json_group_array(json_array(id, lease, cancel_reason,
    CASE WHEN extra & 128 THEN 'timeout' WHEN extra & 32 THEN 'parent' ELSE 'operator' END)) FROM (
    SELECT id, lease, cancel_reason, extra FROM jobrt_job INDEXED BY jobrt_job_executing
    WHERE state = 3 AND worker = :worker AND cancel_reason IS NOT NULL
    UNION ALL
    SELECT j.id, j.lease, j.cancel_reason, j.extra FROM jobrt_waiting AS w JOIN jobrt_job AS j ON j.id = w.job_id
    WHERE w.worker = :worker AND j.state IN (1, 7) AND j.lease > 0 AND j.cancel_reason IS NOT NULL
);
