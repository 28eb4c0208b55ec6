-- Of some jobs, the closing ones without living children: [id, number of the decided state].
SELECT json_group_array(json_array(j.id, CAST(ifnull(w.name, '5') AS INTEGER))) FROM jobrt_job AS j
LEFT JOIN jobrt_waiting AS w ON w.job_id = j.id AND w.kind = 'close'
WHERE j.id IN (SELECT value FROM json_each(:ids)) AND j.state = 8
    AND NOT EXISTS (SELECT 1 FROM jobrt_member WHERE job_id = j.id AND alive = 1);
