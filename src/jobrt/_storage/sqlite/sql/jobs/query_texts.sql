-- The texts of a job that has large ones.
SELECT queue, name, worker, cancel_reason, context, tags, args, metadata FROM jobrt_job WHERE id = ?;
