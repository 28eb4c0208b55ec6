-- Starts ([id, lease, time], ...) of jobs that were claimed ahead. The lease is the fence; a start that is known stays.
UPDATE jobrt_job SET started_at = min(json_extract(start.value, '$[2]'), :now)
FROM json_each(:starts) AS start
WHERE jobrt_job.id = json_extract(start.value, '$[0]') AND jobrt_job.lease = json_extract(start.value, '$[1]')
    AND started_at IS NULL;
