SELECT queue, attempt, schedule_at, started_at, worker, cancel_reason FROM jobrt_job
WHERE id = :id AND lease = :lease;
