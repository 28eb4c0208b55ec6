UPDATE jobrt_job SET
    state = :state, lease = -lease, attempt = :attempt, schedule_at = :schedule_at, finished_at = :finished_at,
    cancel_reason = :cancel_reason, started_at = :started_at, extra = extra | :recorded,
    unfit = :unfit
WHERE id = :id AND lease = :lease;
