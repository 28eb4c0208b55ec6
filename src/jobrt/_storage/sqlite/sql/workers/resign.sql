-- The row is kept, so that terms continue to grow.
UPDATE jobrt_leader SET worker = NULL, expires_at = 0 WHERE role = :role AND worker = :worker;
