"""A PostgreSQL server shared by all processes of a test run.

The first process that needs it starts it. The main process of the run, which ends last, removes it. The next run
removes the servers of runs that were killed.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

import attrs
import psutil

from tests.support.postgres import Cluster, Server, destroy, find_programs

_PREFIX: Final = "jobrt-pg"
# Hundreds of databases come and go. Without these, a third of the server's time is spent on visits of autovacuum, on
# checkpoints, and on WAL for standbys that it does not have.
_QUICK: Final = {
    "autovacuum_naptime": "30min",
    "checkpoint_timeout": "1h",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "wal_level": "minimal",
}


@attrs.frozen
class Clusters:
    """The PostgreSQL servers of one test run, in a folder of its own."""

    home: Path

    @classmethod
    def of_this_run(cls) -> "Clusters":
        """Create the folder; its name has the id of this process."""
        home = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{os.getpid()}-"))
        home.chmod(0o711)  # the user who runs the servers needs access to subfolders
        return cls(home)

    def shared(self) -> Server:
        """Return the shared server, and start it if it is not running."""
        with self._locked():
            cluster = Cluster(self.home / "shared", find_programs(self.home))
            if not cluster.home.exists():
                cluster.create(_QUICK)
            if not cluster.running:
                cluster.start()
        return cluster.server

    @contextmanager
    def private(self, settings: Mapping[str, str]) -> Generator[Cluster]:
        """Run a server for one test."""
        with self._locked():
            programs = find_programs(self.home)
        cluster = Cluster(self.home / f"private-{uuid4().hex[:8]}", programs)
        try:
            cluster.create(settings)
            cluster.start()
            yield cluster
        finally:
            destroy(cluster.home)

    def destroy(self) -> None:
        """Kill all servers and remove the folder."""
        for data in self.home.glob("*/data"):
            destroy(data.parent)
        shutil.rmtree(self.home, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Generator[None]:
        # SQLite has the only lock in the standard library that works everywhere and ends with its process.
        with closing(sqlite3.connect(self.home / "lock", timeout=120, isolation_level=None)) as lock:
            lock.execute("begin exclusive")
            yield


def sweep() -> None:
    """Remove the servers of test runs that were killed."""
    for home in Path(tempfile.gettempdir()).glob(f"{_PREFIX}-*-*"):
        with suppress(OSError, ValueError):
            owner = int(home.name.split("-")[2])
            if not psutil.pid_exists(owner) and (os.name == "nt" or home.stat().st_uid == os.getuid()):
                Clusters(home).destroy()
