UPDATE jobrt_job SET state = 1, lease = NULL, attempt = attempt - 1
WHERE id IN (SELECT value FROM json_each(?));
