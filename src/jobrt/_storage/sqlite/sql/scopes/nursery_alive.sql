SELECT EXISTS (SELECT 1 FROM jobrt_member WHERE job_id = :id AND nursery = :name AND alive = 1);
