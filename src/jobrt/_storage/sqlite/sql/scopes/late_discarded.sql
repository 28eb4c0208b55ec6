UPDATE jobrt_job SET state = 6, lease = NULL, finished_at = :now, extra = extra | 1 WHERE id = :id;
