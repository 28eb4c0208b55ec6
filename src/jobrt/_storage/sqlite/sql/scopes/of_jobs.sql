-- What scopes say of jobs: [id, parent, [kind, name, since, until, worker] or null, deadline, expiry].
SELECT json_group_array(json_array(wanted.value,
    (SELECT m.job_id FROM jobrt_member AS m WHERE m.child_id = wanted.value AND m.kind <> 'd' LIMIT 1),
    CASE WHEN j.state IN (7, 8) OR j.state = 1 AND j.lease > 0 THEN
        (SELECT json_array(w.kind, w.name, w.since, w.until, w.worker) FROM jobrt_waiting AS w WHERE w.job_id = wanted.value) END,
    d.deadline_at, d.expires_at))
FROM json_each(:ids) AS wanted JOIN jobrt_job AS j ON j.id = wanted.value
LEFT JOIN jobrt_deadline AS d ON d.job_id = wanted.value;
