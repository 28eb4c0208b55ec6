-- Only a request: the worker receives it, and the job's outcome decides. The first reason is kept.
UPDATE jobrt_job SET cancel_reason = :reason
WHERE id IN (SELECT value FROM json_each(:ids)) AND (state = 3 OR (state < 3 OR state = 7) AND lease > 0);
