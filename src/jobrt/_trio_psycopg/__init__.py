"""psycopg for Trio.

::

    pool                            warm connections, one call at a time, with deadlines
     └─ connection                  psycopg's AsyncConnection, waiting with Trio
         ├─ hosts                   hosts and addresses of a conninfo
         ├─ protocol                psycopg's generators, and how to cancel each of them
         ├─ lock                    which task uses the connection
         ├─ socket                  readiness of sockets, and cancel requests
         └─ prepared                short statements without a cursor
    errors                          translation of psycopg's errors to jobrt's
"""

from jobrt._trio_psycopg.connection import TrioConnection

__all__ = ["TrioConnection"]
