SELECT EXISTS (SELECT 1 FROM jobrt_worker WHERE id = :id AND expires_at > :now);
