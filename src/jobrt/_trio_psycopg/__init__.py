"""Drive psycopg from Trio.

::

    pool                     warm connections, one call at a time, each with a deadline
     └─ connection           psycopg's AsyncConnection with Trio's waiting
         ├─ hosts            where a conninfo leads
         ├─ turn  socket     who may use the connection, and when it is ready
         ├─ cancel           stop the server
         └─ prepared         short statements without a cursor
    errors                   what an error means for a call: try later, migrate, give up
"""

from jobrt._trio_psycopg.connection import TrioConnection

__all__ = ["TrioConnection"]
