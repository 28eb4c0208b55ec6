-- Also the fence: no row, no lease.
UPDATE jobrt_job SET extra = 1 WHERE id = :id AND lease = :lease;
