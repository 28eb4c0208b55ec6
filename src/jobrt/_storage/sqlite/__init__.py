"""Jobs in a SQLite file, or in memory: no server to install; several processes on one machine can share it."""

from jobrt._storage.sqlite.blocking import BlockingSqlite, open_blocking
from jobrt._storage.sqlite.open import open_sqlite

__all__ = ["BlockingSqlite", "open_blocking", "open_sqlite"]
