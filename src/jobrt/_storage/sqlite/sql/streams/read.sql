SELECT state, schedule_at, started_at, attempt,
    (SELECT progress FROM jobrt_detail WHERE job_id = jobrt_job.id),
    coalesce((SELECT last FROM jobrt_stream WHERE job_id = jobrt_job.id), 0)
FROM jobrt_job WHERE id = ?;
