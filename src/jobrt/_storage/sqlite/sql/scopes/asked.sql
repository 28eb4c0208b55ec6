SELECT cancel_reason IS NOT NULL FROM jobrt_job WHERE id = ?;
