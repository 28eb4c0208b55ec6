-- The attempt, if the lease holds the job, or has written its outcome and nobody has claimed the job since.
SELECT attempt FROM jobrt_job WHERE id = :id AND lease IN (:lease, -:lease);
