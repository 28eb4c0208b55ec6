-- Results may be large and are rarely read, so they are not in the hot row.
INSERT INTO jobrt_detail (job_id, result)
SELECT jobrt_job.id, json_extract(outcome.value, '$[2]') FROM json_each(:results) AS outcome
JOIN jobrt_job ON jobrt_job.id = json_extract(outcome.value, '$[0]')
WHERE jobrt_job.lease = -json_extract(outcome.value, '$[1]')
ON CONFLICT (job_id) DO UPDATE SET result = excluded.result;
