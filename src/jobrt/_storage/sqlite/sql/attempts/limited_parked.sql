-- Of these waiting jobs, those whose attempts are parked in a worker: they are still leased to it.
SELECT json_group_array(id) FROM jobrt_job WHERE id IN (SELECT value FROM json_each(:ids)) AND lease > 0;
