-- The jobs of attempts ({"id": lease, ...}) that still own their job. The claim of a job that is parked was given back.
SELECT json_group_array(json_array(
    jobrt_job.id, queue, attempt + (state <> 3), schedule_at, started_at, worker, cancel_reason, extra, state
))
FROM json_each(:refs) AS outcome
JOIN jobrt_job ON jobrt_job.id = CAST(outcome.key AS INTEGER)
WHERE jobrt_job.lease = outcome.value;
