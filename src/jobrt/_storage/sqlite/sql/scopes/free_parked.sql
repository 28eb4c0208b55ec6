UPDATE jobrt_job SET lease = NULL WHERE id IN (SELECT value FROM json_each(:ids)) AND lease > 0 AND state IN (1, 7) RETURNING queue, state;
