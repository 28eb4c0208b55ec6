-- Running jobs of a queue, for limits over the cluster. All running jobs are few: the index holds no others.
SELECT json_group_array(json_array(name, args, metadata)) FROM jobrt_job INDEXED BY jobrt_job_executing
WHERE state = 3 AND queue = ?;
