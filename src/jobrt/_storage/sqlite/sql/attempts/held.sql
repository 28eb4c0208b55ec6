SELECT EXISTS (SELECT 1 FROM jobrt_job WHERE id = :id AND lease = :lease);
