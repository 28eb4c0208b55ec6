UPDATE jobrt_job SET
    state = :state, lease = CASE WHEN :parks THEN lease ELSE -lease END, finished_at = :finished_at,
    attempt = max(attempt - (state = 3), 0), started_at = min(coalesce(:began, started_at, :now), :now)
WHERE id = :id AND lease = :lease;
