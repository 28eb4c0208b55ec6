-- A damaged row may have no lease.
UPDATE jobrt_job SET state = :state, lease = NULL, finished_at = :finished_at, schedule_at = :schedule_at, extra = extra | 1
WHERE id = :id AND lease IS :lease;
