-- The texts of a job that has large ones: payload and metadata whole, or only their beginning.
SELECT queue, name, worker, cancel_reason, context, tags,
    CASE WHEN :whole THEN args ELSE substr(args, 1, 8193) END,
    CASE WHEN :whole THEN metadata ELSE substr(metadata, 1, 8193) END
FROM jobrt_job WHERE id = :id;
