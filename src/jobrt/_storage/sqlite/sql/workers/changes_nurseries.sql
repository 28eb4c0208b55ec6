-- Nurseries that are being ended, of the jobs that this worker runs or has parked. One whose members are over already is
-- told until its body has ended.
SELECT json_group_array(json_array(j.id, j.lease, n.name)) FROM (
    SELECT job_id, name FROM jobrt_nursery INDEXED BY jobrt_nursery_ending WHERE ending = 1
    UNION
    SELECT job_id, name FROM jobrt_nursery INDEXED BY jobrt_nursery_untold
    WHERE sealed = 0 AND state IN ('failed', 'too_slow')
) AS n JOIN jobrt_job AS j ON j.id = n.job_id
WHERE j.worker = :worker AND (j.state = 3 OR j.state IN (1, 7) AND j.lease > 0);
