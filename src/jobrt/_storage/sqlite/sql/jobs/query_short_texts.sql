-- The texts of a job that are no payload. Those after them in the row are not read.
SELECT queue, name, worker, cancel_reason, context, tags FROM jobrt_job WHERE id = ?;
