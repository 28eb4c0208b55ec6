-- Buckets that are full again, and free: without them the same is allowed.
DELETE FROM jobrt_bucket WHERE full_at < :now AND NOT {in_force};
