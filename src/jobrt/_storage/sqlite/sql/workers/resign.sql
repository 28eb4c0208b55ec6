-- The row stays, so that terms go on growing.
UPDATE jobrt_leader SET worker = NULL, expires_at = 0 WHERE role = :role AND worker = :worker;
