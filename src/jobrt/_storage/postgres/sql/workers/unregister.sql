-- Jobs it still holds are then nobody's, and the next rescue takes them.
delete from {schema}.worker w where w.id = :worker
