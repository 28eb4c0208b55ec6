-- The first ids of jobs that workers hold. There are as many as workers have slots; the plus sign has them sorted.
SELECT json_group_array(json_array(id, NULL)) FROM (
    SELECT id FROM jobrt_job INDEXED BY jobrt_job_executing WHERE state = 3{behind} ORDER BY +id {way} LIMIT :depth
);
