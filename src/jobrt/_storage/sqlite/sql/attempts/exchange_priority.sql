-- The next lower priority that has waiting jobs. One index probe, however many jobs it skips.
SELECT priority FROM jobrt_job INDEXED BY jobrt_job_waiting
WHERE queue = :queue AND state < 3 AND priority < :below
ORDER BY priority DESC LIMIT 1;
