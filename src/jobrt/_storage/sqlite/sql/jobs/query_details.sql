-- Results, progress and checkpoints, except of jobs whose are large: those are read one at a time.
SELECT json_group_array(json_array(job_id, CASE
    WHEN ifnull(length(CAST(result AS BLOB)), 0) + ifnull(length(CAST(progress AS BLOB)), 0)
        + ifnull(length(CAST(saved AS BLOB)), 0) <= 8192
    THEN json_array(result, progress, saved)
END)) FROM jobrt_detail
WHERE job_id IN (SELECT value FROM json_each(?));
