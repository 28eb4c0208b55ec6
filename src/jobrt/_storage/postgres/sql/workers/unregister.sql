-- Jobs that it still holds then have no worker, and the next rescue takes them.
delete from {schema}.worker w where w.id = :worker
