"""Databases for measurements, created for one and dropped after it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import attrs
import psutil
import psycopg

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.postgres import Server

__all__ = ["Counters", "Database", "Databases", "PostgresDatabases", "SqliteDatabases"]

_WAL = "pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"
_COUNTERS = """
    select (select xact_commit from pg_stat_database where datname = current_database()),
           (select coalesce(sum(n_tup_upd + n_tup_del), 0) from pg_stat_user_tables)
"""
_CLIENTS = "select count(*) from pg_stat_activity where backend_type = 'client backend' and datname = '{}'"


@attrs.frozen
class Counters:
    """Counters of a database, or NaN if it has none."""

    commits: float = float("nan")
    dead: float = float("nan")
    """Row versions left by updates and deletes, even if vacuum has removed them."""


class Database(Protocol):
    """A database with a job queue in it."""

    url: str

    def left(self, query: str, jobs: int) -> int:
        """Return the number of jobs without a committed end; ``jobs`` were enqueued."""
        ...

    def settle(self) -> None:
        """Bring the database into the same state before each drain."""
        ...

    def wal(self) -> float:
        """Return the number of bytes of WAL written so far."""
        ...

    def counters(self, *, others: int = 0) -> Counters:
        """Wait until only ``others`` clients are connected, which then have reported, and return the counters."""
        ...


class Databases(Protocol):
    """Factory of databases."""

    def fresh(self, *, template: str | None = None) -> AbstractContextManager[Database]:
        """Create an empty database, or a copy of another, for a block."""
        ...

    def cpu(self) -> float:
        """Return the CPU seconds of the server, or NaN if they are unknown."""
        ...


@attrs.define(eq=False)
class PostgresDatabase:
    """A PostgreSQL database. Its own queries are not counted."""

    server: Server
    name: str
    url: str
    watch: psycopg.Connection[Any]
    queries: int = 0

    def ask(self, query: str) -> tuple[Any, ...]:
        """Return the first row of a query."""
        self.queries += 1
        row = self.watch.execute(query.encode()).fetchone()
        assert row is not None
        return row

    def left(self, query: str, jobs: int) -> int:
        """Return the number of jobs without a committed end."""
        return int(self.ask(query.replace(":jobs", str(jobs)))[0])

    def settle(self) -> None:
        """Vacuum, analyze and checkpoint."""
        self.execute("vacuum analyze")
        with suppress(
            psycopg.errors.InsufficientPrivilege
        ):  # then the WAL depends on the server's own checkpoints
            self.execute("checkpoint")

    def execute(self, command: str) -> None:
        """Run a command."""
        self.server.execute(command, url=self.url)

    def wal(self) -> float:
        """Return the number of bytes of WAL that the server has written."""
        return float(self.ask(f"select {_WAL}")[0])

    def counters(self, *, others: int = 0) -> Counters:
        """Reconnect when only ``others`` clients are connected, and return the counters without our queries."""
        self.watch.close()
        deadline = time.monotonic() + 60
        while self.server.execute(_CLIENTS.format(self.name))[0][0] > others:
            if time.monotonic() > deadline:
                raise TimeoutError(f"a client is still connected to {self.name}")
            time.sleep(0.02)
        self.watch = psycopg.connect(self.url, autocommit=True)
        commits, dead = self.ask(_COUNTERS)
        return Counters(float(commits) - self.queries, float(dead))


@attrs.define(eq=False)
class PostgresDatabases:
    """A PostgreSQL server."""

    server: Server
    _postmaster: psutil.Process | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        with psycopg.connect(self.server.admin, autocommit=True) as connection:
            self._postmaster = _postmaster(connection.info.backend_pid)

    @contextmanager
    def fresh(self, *, template: str | None = None) -> Generator[PostgresDatabase]:
        """Create an empty database, or a copy of another, and drop it after the block."""
        name = f"jobrt_test_bench_{uuid4().hex[:12]}"
        strategy = f' template "{template}" strategy file_copy' if template else ""
        self.server.execute(f'create database "{name}"{strategy}')
        try:
            url = self.server.url(name)
            database = PostgresDatabase(self.server, name, url, psycopg.connect(url, autocommit=True))
            try:
                yield database
            finally:
                database.watch.close()
        finally:
            self.server.drop_database(name)

    def cpu(self) -> float:
        """Return the CPU seconds of the server with all backends, or NaN if it is on another machine."""
        if self._postmaster is None:
            return float("nan")
        return sum(_cpu(process) for process in (self._postmaster, *self._postmaster.children()))

    def about(self) -> dict[str, str]:
        """Return the version and the settings that decide about durability."""
        names = (
            "server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size"
        )  # fmt: skip
        return {name: self.server.execute(f"show {name}")[0][0] for name in names}

    def commit_ms(self) -> float:
        """Return the median time of a transaction with one row in milliseconds."""
        times = []
        with self.fresh() as database:
            database.watch.execute("create table commit_time (at timestamptz)")
            for _ in range(100):
                begin = time.perf_counter()
                database.watch.execute("insert into commit_time values (now())")
                times.append(time.perf_counter() - begin)
        return sorted(times)[50] * 1000


def _postmaster(backend: int) -> psutil.Process | None:
    """Return the parent process of a backend, if it is on this machine."""
    try:
        parent = psutil.Process(backend).parent()
        return parent if parent is not None and "postgres" in parent.name() else None
    except psutil.Error:
        return None


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # from now on its parent has its times
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


@attrs.define(eq=False)
class SqliteDatabase:
    """A SQLite file."""

    url: str
    path: Path

    def left(self, query: str, jobs: int) -> int:
        """Return the number of jobs without a committed end."""
        with closing(sqlite3.connect(self.path, timeout=60)) as connection:
            return int(connection.execute(query.replace("jobrt.job", "jobrt_job")).fetchone()[0])

    def settle(self) -> None:
        """Write the WAL back to the file."""
        with closing(sqlite3.connect(self.path, timeout=60)) as connection:
            connection.execute("pragma wal_checkpoint(truncate)")

    def wal(self) -> float:
        """Return NaN, because the WAL is overwritten."""
        return float("nan")

    def counters(self, *, others: int = 0) -> Counters:
        """Return NaN for all counters."""
        return Counters()


@attrs.frozen
class SqliteDatabases:
    """A folder for SQLite files."""

    folder: Path

    @contextmanager
    def fresh(self, *, template: str | None = None) -> Generator[SqliteDatabase]:
        """Return the path of a new file, and remove it after the block."""
        assert template is None
        path = self.folder / f"{uuid4().hex[:12]}.db"
        yield SqliteDatabase(f"sqlite:///{path}", path)
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()

    def cpu(self) -> float:
        """Return NaN, because there is no server."""
        return float("nan")
