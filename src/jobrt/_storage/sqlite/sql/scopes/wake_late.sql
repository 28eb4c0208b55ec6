UPDATE jobrt_job SET state = 1 WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 7 RETURNING queue;
