SELECT paused FROM jobrt_queue WHERE name = ?;
