-- Outcomes that are more than clean ends, [[id, lease, new values ...], ...]. The lease is negated, as in finish_clean.
UPDATE jobrt_job SET
    state = json_extract(new.value, '$[2]'), lease = -lease, attempt = json_extract(new.value, '$[3]'),
    schedule_at = json_extract(new.value, '$[4]'), started_at = json_extract(new.value, '$[5]'),
    extra = extra | json_extract(new.value, '$[6]'), finished_at = json_extract(new.value, '$[7]'),
    cancel_reason = json_extract(new.value, '$[8]'), unfit = json_extract(new.value, '$[9]')
FROM json_each(:jobs) AS new
WHERE jobrt_job.id = json_extract(new.value, '$[0]') AND jobrt_job.lease = json_extract(new.value, '$[1]');
