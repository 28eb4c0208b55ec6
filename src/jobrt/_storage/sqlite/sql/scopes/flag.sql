UPDATE jobrt_job SET extra = extra | :flag WHERE id = :id;
