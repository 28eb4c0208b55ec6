-- Records of ended attempts, [[job, lease, number, ...], ...]. `WHERE true`: without it, ON would belong to a join.
INSERT INTO jobrt_attempt
    (job_id, lease, number, "end", started_at, finished_at, worker, error_type, message, traceback)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'), json_extract(value, '$[6]'),
    json_extract(value, '$[7]'), json_extract(value, '$[8]'), json_extract(value, '$[9]')
FROM json_each(:records)
WHERE true
ON CONFLICT (job_id, lease) DO NOTHING;
