SELECT lease, batch, last, bytes FROM jobrt_stream WHERE job_id = ?;
