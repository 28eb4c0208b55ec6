-- Jobs that it still holds then have no worker, and the next rescue ends their attempts.
delete from {schema}.worker w where w.id = :worker
