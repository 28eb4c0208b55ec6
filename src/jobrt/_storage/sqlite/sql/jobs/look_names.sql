-- The names of the final jobs of each state in a list: [state, name]. A skip scan: a probe of the index for each.
WITH RECURSIVE kinds (code, called) AS (
    SELECT final.value, (SELECT min(job.name) FROM jobrt_job AS job WHERE job.state > 3 AND job.state = final.value)
    FROM json_each(:states) AS final
    UNION ALL
    SELECT code, (
        SELECT min(job.name) FROM jobrt_job AS job WHERE job.state > 3 AND job.state = code AND job.name > called
    ) FROM kinds WHERE called IS NOT NULL
    LIMIT :most
)
SELECT json_group_array(json_array(code, called)) FROM kinds WHERE called IS NOT NULL;
