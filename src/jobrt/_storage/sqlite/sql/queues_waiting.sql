-- From the index alone, in its order: grouping by state as well would sort all that waits, which takes three times as
-- long. A due scheduled job is available; the oldest is the longest due, whatever it waits for.
SELECT json_group_array(json_array(queue, scheduled, available, retryable, oldest)) FROM (
    SELECT
        queue,
        count(*) FILTER (WHERE state = 0 AND schedule_at > :now) AS scheduled,
        count(*) FILTER (WHERE state = 1 OR (state = 0 AND schedule_at <= :now)) AS available,
        count(*) FILTER (WHERE state = 2) AS retryable,
        min(schedule_at) FILTER (WHERE schedule_at <= :now) AS oldest
    FROM jobrt_job INDEXED BY jobrt_job_waiting WHERE state < 3 GROUP BY queue
);
