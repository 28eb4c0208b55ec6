-- After an operator's rerun, the next attempt of these jobs runs members again that did not complete.
UPDATE jobrt_member SET attempt = 0 WHERE job_id IN (SELECT value FROM json_each(:ids)) AND attempt > 0;
