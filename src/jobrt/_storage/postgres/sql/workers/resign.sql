delete from {schema}.leader l where l.role = :role and l.worker = :worker
