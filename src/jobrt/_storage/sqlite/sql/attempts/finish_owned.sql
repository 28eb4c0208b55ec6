SELECT queue, attempt + (state <> 3), schedule_at, started_at, worker, cancel_reason, extra, state FROM jobrt_job
WHERE id = :id AND lease = :lease;
