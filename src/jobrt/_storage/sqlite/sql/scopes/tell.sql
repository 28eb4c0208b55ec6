-- Ask the jobs that a worker holds to stop.
UPDATE jobrt_job SET extra = extra | 32, cancel_reason = coalesce(cancel_reason, :reason)
WHERE id IN (SELECT value FROM json_each(:ids)) AND (state = 3 OR (state < 3 OR state = 7) AND lease > 0)
RETURNING id;
