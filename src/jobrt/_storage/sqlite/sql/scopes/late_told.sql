UPDATE jobrt_job SET extra = extra | 128, cancel_reason = coalesce(cancel_reason, :reason) WHERE id = :id;
