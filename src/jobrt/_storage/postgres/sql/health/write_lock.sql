-- The lock that every write of a worker takes: it waits behind a migration or another exclusive lock.
lock table {schema}.job, {schema}.attempt, {schema}.worker, {schema}.queue in row exclusive mode
