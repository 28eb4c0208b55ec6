-- For each state of the list and each name: [time, id] of the first final jobs in the order of their ends.
WITH RECURSIVE kinds (code, called) AS (
    SELECT final.value, (SELECT min(job.name) FROM jobrt_job AS job WHERE job.state > 3 AND job.state = final.value)
    FROM json_each(?) AS final
    UNION ALL
    SELECT code, (
        SELECT min(job.name) FROM jobrt_job AS job WHERE job.state > 3 AND job.state = code AND job.name > called
    ) FROM kinds WHERE called IS NOT NULL
)
SELECT json_group_array(json((
    SELECT json_group_array(json_array(finished_at, id)) FROM (
        SELECT finished_at, id FROM jobrt_job INDEXED BY jobrt_job_final
        WHERE state > 3 AND state = code AND name = called AND ({where})
        ORDER BY finished_at {way}, id {way} LIMIT ?
    )
)))
FROM kinds WHERE called IS NOT NULL;
