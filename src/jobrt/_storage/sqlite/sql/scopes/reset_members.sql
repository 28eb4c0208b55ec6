-- Let the members of a nursery that is opened again run again in this attempt.
UPDATE jobrt_member SET attempt = 0 WHERE job_id = :id AND nursery = :name AND attempt > 0;
