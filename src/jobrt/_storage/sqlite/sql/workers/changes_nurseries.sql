SELECT json_group_array(json_array(j.id, j.lease, n.name)) FROM jobrt_nursery AS n INDEXED BY jobrt_nursery_ending
JOIN jobrt_job AS j ON j.id = n.job_id
WHERE n.ending = 1 AND j.worker = :worker AND j.state = 3;
