-- Bytes of the texts that a claim returns for jobs that have large ones, or that have run before.
SELECT json_group_array(json_array(
    id,
    length(CAST(args AS BLOB)) + length(CAST(metadata AS BLOB)) + length(CAST(tags AS BLOB))
    + ifnull(length(CAST(context AS BLOB)), 0)
    + CASE WHEN extra & 1 = 0 THEN 0 ELSE (
        SELECT ifnull(sum(min(ifnull(length(CAST(message AS BLOB)), 0), 44000)
            + min(ifnull(length(CAST(traceback AS BLOB)), 0), 204000)), 0)
        FROM jobrt_attempt WHERE job_id = jobrt_job.id
    ) + ifnull((
        SELECT ifnull(length(CAST(saved AS BLOB)), 0) + ifnull(length(CAST(progress AS BLOB)), 0)
        FROM jobrt_detail WHERE job_id = jobrt_job.id
    ), 0) END
)) FROM jobrt_job WHERE id IN (SELECT value FROM json_each(?));
