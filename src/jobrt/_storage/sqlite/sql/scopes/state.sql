SELECT state FROM jobrt_job WHERE id = ?;
