SELECT max(id) FROM jobrt_job;
