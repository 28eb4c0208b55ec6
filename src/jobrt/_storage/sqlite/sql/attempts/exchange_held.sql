SELECT held_until FROM jobrt_queue WHERE name = :queue AND {in_force};
