-- Nurseries as after a failed attempt.
UPDATE jobrt_nursery SET state = 'open', sealed = 0, retried = 1, ending = 0, deadline = NULL
WHERE job_id IN (SELECT value FROM json_each(:ids));
