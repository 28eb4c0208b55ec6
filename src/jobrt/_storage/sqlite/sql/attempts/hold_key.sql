-- A new bucket is full: it has more parts than any rate allows.
INSERT INTO jobrt_bucket (queue, key, at, parts, unit, held_until, full_at)
SELECT queue, limit_key, :now, 100000, 1, :until, :now FROM jobrt_job WHERE id = :id AND limit_key IS NOT NULL
ON CONFLICT (queue, key)
DO UPDATE SET held_until = CASE WHEN {in_force} THEN max(held_until, :until) ELSE :until END;
