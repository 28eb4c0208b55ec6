-- A dead worker whose jobs are not all rescued keeps its row, so that they can still be found.
DELETE FROM jobrt_worker WHERE expires_at <= ? AND NOT EXISTS (
    SELECT 1 FROM jobrt_job INDEXED BY jobrt_job_executing WHERE state = 3 AND worker = jobrt_worker.id
);
