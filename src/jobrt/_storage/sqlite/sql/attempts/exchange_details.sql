-- One job at a time: checkpoints have no limit of their own.
SELECT saved, progress FROM jobrt_detail WHERE job_id = ?;
