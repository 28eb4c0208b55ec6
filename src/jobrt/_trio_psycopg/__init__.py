"""psycopg for Trio.

::

    pool                            warm connections, one call at a time, with deadlines
     └─ connection                  psycopg's AsyncConnection, waiting with Trio
         ├─ hosts                   hosts and addresses of a conninfo
         ├─ protocol  cancel        how to cancel psycopg's generators, and the server
         ├─ lock  notifications     which task uses the connection; LISTEN
         ├─ socket                  whether the socket is ready
         └─ prepared                short statements without a cursor
    errors                          translation of psycopg's errors to jobrt's
"""

from jobrt._trio_psycopg.connection import TrioConnection

__all__ = ["TrioConnection"]
