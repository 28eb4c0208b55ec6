-- Running jobs of a queue, for cluster-wide limits. Running jobs are few, and the index contains no others.
SELECT json_group_array(json_array(id, name, {small_texts})) FROM jobrt_job INDEXED BY jobrt_job_executing
WHERE state = 3 AND queue = ?;
