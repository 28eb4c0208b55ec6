UPDATE jobrt_job SET cancel_reason = :reason WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 8;
