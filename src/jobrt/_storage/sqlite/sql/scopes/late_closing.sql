UPDATE jobrt_job SET extra = extra | 1 WHERE id = :id;
