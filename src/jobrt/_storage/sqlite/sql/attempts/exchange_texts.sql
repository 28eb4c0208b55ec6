-- The texts of a job that has large ones.
SELECT args, metadata, tags, context FROM jobrt_job WHERE id = ?;
