INSERT INTO jobrt_queue (name, key) VALUES (:queue, :key) ON CONFLICT (name) DO UPDATE SET key = :key
WHERE key IS NOT :key;
