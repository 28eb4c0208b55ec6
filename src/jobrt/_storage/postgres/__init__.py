"""Jobs in PostgreSQL.

::

    open ─ schema  jobs  attempts  workers  queues  crons  wakes      the roles of `jobrt._storage.contract`
     ├─ insert  query  prune  stats  claim  limited_claim  finish  dependencies  filters
     │                                                                what to ask for, and what the answers mean
     ├─ waker                                                         hints sent
     └─ database ─ session                                            connections, deadlines, races
         └─ names  rows  encode                                       names and statements, values both ways
             └─ sql/  migrations/                                     one statement per file, and why it is so
"""

from jobrt._storage.postgres.open import open_postgres
from jobrt._storage.postgres.schema import migration_sql

__all__ = ["migration_sql", "open_postgres"]
