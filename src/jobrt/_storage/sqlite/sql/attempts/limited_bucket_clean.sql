-- Buckets that are full again: without them the same is allowed.
DELETE FROM jobrt_bucket WHERE queue = :queue AND full_at < :now AND held_until < :now;
