-- What decides whether the equal job that was found may be changed.
SELECT state, schedule_at, queue FROM jobrt_job WHERE id = ?;
