"""Keep jobs in PostgreSQL.

::

    storage      the Protocol's methods, each a few lines
     ├─ claim  cluster  finish  insert  rescue  manage  filters     what to ask for, and what the answers mean
     ├─ listen  wake                                                hints, heard and sent
     ├─ migrate
     └─ database                                                    connections, deadlines, races
         └─ schema  rows  encode                                    names and statements, values both ways
             └─ sql/  migrations/                                   one statement per file, and why it is so
"""

from jobrt._storage.postgres.schema import migration_sql
from jobrt._storage.postgres.storage import open_postgres

__all__ = ["migration_sql", "open_postgres"]
