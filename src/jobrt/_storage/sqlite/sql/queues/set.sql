INSERT INTO jobrt_queue (name, paused, concurrency) VALUES (:name, coalesce(:paused, 0), :concurrency)
ON CONFLICT (name) DO UPDATE SET
    paused = coalesce(:paused, paused),
    concurrency = CASE WHEN :as_configured THEN NULL ELSE coalesce(:concurrency, concurrency) END;
