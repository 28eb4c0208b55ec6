UPDATE jobrt_job SET state = :state, finished_at = CASE WHEN :state BETWEEN 4 AND 6 THEN :now END
WHERE id = :id AND state = 8
RETURNING queue, schedule_at <= :now;
