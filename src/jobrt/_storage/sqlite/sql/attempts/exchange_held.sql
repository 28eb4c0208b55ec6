SELECT held_until FROM jobrt_queue WHERE name = :queue AND held_until > :now;
