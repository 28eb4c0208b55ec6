-- Also checks the lease: no row means that it is lost.
UPDATE jobrt_job SET extra = extra | 1 WHERE id = :id AND lease = :lease;
