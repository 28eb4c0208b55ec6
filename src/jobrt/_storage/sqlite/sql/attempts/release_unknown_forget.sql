-- Nobody ran that attempt, so nobody has anything to say about it: unlike an outcome's, its lease is forgotten.
UPDATE jobrt_job SET lease = NULL WHERE id IN (SELECT value FROM json_each(?));
