-- Whether the worker can read the payload, as `Demand.fits` says: {"name": [highest version, shape], ...}.
CASE WHEN version IS NULL AND unfit IS NULL THEN 1 ELSE
    ifnull(version, 1) <= ifnull(
        (SELECT json_extract(fit.value, '$[0]') FROM json_each(:fits) AS fit WHERE fit.key = jobrt_job.name), 1)
    AND (unfit IS NULL OR unfit IS NOT
        (SELECT json_extract(fit.value, '$[1]') FROM json_each(:fits) AS fit WHERE fit.key = jobrt_job.name))
END
