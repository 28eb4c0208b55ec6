UPDATE jobrt_job SET limit_key = new.value FROM json_each(:keys) AS new WHERE jobrt_job.id = CAST(new.key AS INTEGER);
