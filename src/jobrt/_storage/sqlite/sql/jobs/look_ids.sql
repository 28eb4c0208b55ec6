-- The first ids of jobs, by the table itself.
SELECT json_group_array(json_array(id, NULL)) FROM (
    SELECT id FROM jobrt_job NOT INDEXED WHERE {where} ORDER BY id {way} LIMIT ?
);
