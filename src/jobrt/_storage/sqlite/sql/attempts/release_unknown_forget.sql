-- The attempt never ran, so no outcome can arrive for it: unlike after an outcome, the lease is cleared.
UPDATE jobrt_job SET lease = NULL WHERE id IN (SELECT value FROM json_each(?));
