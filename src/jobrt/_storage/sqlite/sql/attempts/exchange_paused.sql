-- Whether nothing of a queue may start.
SELECT paused OR ifnull(held_until, 0) > :now FROM jobrt_queue WHERE name = :queue;
