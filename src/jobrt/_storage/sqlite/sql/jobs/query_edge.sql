-- The last id of a batch of jobs in the order of ids; no row if there are fewer.
SELECT id FROM jobrt_job NOT INDEXED WHERE 1{behind} ORDER BY id {way} LIMIT 1 OFFSET ?;
