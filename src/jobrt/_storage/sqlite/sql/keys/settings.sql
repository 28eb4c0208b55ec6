-- The queues that have a key. There are few.
SELECT name, key FROM jobrt_queue WHERE key IS NOT NULL;
