"""Jobs in PostgreSQL.

::

    open ─ schema  jobs  attempts  workers  queues  crons  wakes      the roles of `jobrt._storage.contract`
     ├─ insert  query  prune  stats  claim  limited_claim  finish  dependencies  filters
     │                                                                statements, and the meaning of their rows
     ├─ waker                                                         notifications
     └─ database ─ session                                            connections, deadlines, retries
         ├─ grants ─ grants/                                          what roles need
         └─ names  rows  encode                                       names and statements, conversion of values
             └─ sql/  migrations/                                     one statement per file, with its reasons
"""

from jobrt._storage.postgres.grants import KINDS, grants_sql
from jobrt._storage.postgres.open import open_postgres
from jobrt._storage.postgres.schema import migration_sql

__all__ = ["KINDS", "grants_sql", "migration_sql", "open_postgres"]
