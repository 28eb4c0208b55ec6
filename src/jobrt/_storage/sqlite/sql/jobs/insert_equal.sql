-- The newest job with a digest and a state. One probe of the digest's index: asked once per state that counts,
-- so that a thousand finished equals cost no more than one. Its age is judged by the caller.
-- The bounds tell due `scheduled` jobs (which count as available) from the others.
SELECT id, created_at FROM jobrt_job
WHERE digest = :digest AND state = :state AND schedule_at BETWEEN :from_at AND :to_at
ORDER BY id DESC LIMIT 1;
