SELECT extra FROM jobrt_job WHERE id = :id AND lease = :lease AND state = 3;
