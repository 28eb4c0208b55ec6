INSERT INTO jobrt_bucket (queue, key, at, parts, unit, held_until, full_at)
VALUES (:queue, :key, :at, :parts, :unit, :held_until, :full_at)
ON CONFLICT (queue, key) DO UPDATE SET
    at = :at, parts = :parts, unit = :unit, held_until = :held_until, full_at = :full_at;
