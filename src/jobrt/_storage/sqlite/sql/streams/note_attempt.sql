SELECT attempt FROM jobrt_job WHERE id = ?;
