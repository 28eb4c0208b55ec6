-- Of these jobs, those that have a key or whose queue has one.
SELECT json_group_array(json_array(jobrt_job.id, jobrt_queue.key, jobrt_job.name, {small_texts}))
FROM jobrt_job LEFT JOIN jobrt_queue ON jobrt_queue.name = jobrt_job.queue
WHERE jobrt_job.id IN (SELECT value FROM json_each(?)) AND (jobrt_queue.key IS NOT NULL OR limit_key IS NOT NULL);
