"""Jobs in a SQLite file, or in memory: nothing to install, several processes on one machine."""

from jobrt._storage.sqlite.blocking import BlockingSqlite, open_blocking
from jobrt._storage.sqlite.open import open_sqlite

__all__ = ["BlockingSqlite", "open_blocking", "open_sqlite"]
