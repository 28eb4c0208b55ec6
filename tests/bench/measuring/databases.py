"""Databases to measure on: made for one measurement, dropped after it."""

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
    """What a database has counted so far; nan where it does not count."""

    commits: float = float("nan")
    dead: float = float("nan")
    """Row versions that updates and deletes have left, whether or not vacuum has been there since."""


class Database(Protocol):
    """A database with a job queue in it."""

    url: str

    def left(self, query: str, jobs: int) -> int:
        """Return how many of so many jobs have no committed end."""
        ...

    def settle(self) -> None:
        """Let every drain begin in the same state."""
        ...

    def wal(self) -> float:
        """Return how many bytes of WAL there are."""
        ...

    def counters(self, *, others: int = 0) -> Counters:
        """Return what was counted, once only so many clients are left: they report when they go."""
        ...


class Databases(Protocol):
    """Where databases are made."""

    def fresh(self, *, template: str | None = None) -> AbstractContextManager[Database]:
        """Make an empty database, or a copy of another, for the length of a block."""
        ...

    def cpu(self) -> float:
        """Return the CPU seconds that the server has used; nan if that cannot be seen."""
        ...


@attrs.define(eq=False)
class PostgresDatabase:
    """A database on a server. Its own looks at it are not counted."""

    server: Server
    name: str
    url: str
    watch: psycopg.Connection[Any]
    looks: int = 0

    def ask(self, query: str) -> tuple[Any, ...]:
        """Return the first row of a query."""
        self.looks += 1
        row = self.watch.execute(query.encode()).fetchone()
        assert row is not None
        return row

    def left(self, query: str, jobs: int) -> int:
        """Return how many of so many jobs have no committed end."""
        return int(self.ask(query.replace(":jobs", str(jobs)))[0])

    def settle(self) -> None:
        """Vacuum, analyze and checkpoint."""
        self.ask_nothing("vacuum analyze")
        with suppress(psycopg.errors.InsufficientPrivilege):  # then WAL depends on when the server does it
            self.ask_nothing("checkpoint")

    def ask_nothing(self, command: str) -> None:
        """Run a command."""
        self.server.execute(command, url=self.url)

    def wal(self) -> float:
        """Return how many bytes of WAL the server has written."""
        return float(self.ask(f"select {_WAL}")[0])

    def counters(self, *, others: int = 0) -> Counters:
        """Reconnect, wait until nobody is left, and return what was counted, without our looks."""
        self.watch.close()
        deadline = time.monotonic() + 60
        while self.server.execute(_CLIENTS.format(self.name))[0][0] > others:
            if time.monotonic() > deadline:
                raise TimeoutError(f"somebody stays connected to {self.name}")
            time.sleep(0.02)
        self.watch = psycopg.connect(self.url, autocommit=True)
        commits, dead = self.ask(_COUNTERS)
        return Counters(float(commits) - self.looks, float(dead))


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
        """Make an empty database, or a copy of another, and drop it after the block."""
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
        """Return the CPU seconds of the server, ended backends included; nan if it is on another machine."""
        if self._postmaster is None:
            return float("nan")
        return sum(_cpu(process) for process in (self._postmaster, *self._postmaster.children()))

    def about(self) -> dict[str, str]:
        """Return the version and what makes commits durable, or not."""
        names = (
            "server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size"
        )  # fmt: skip
        return {name: self.server.execute(f"show {name}")[0][0] for name in names}

    def commit_ms(self) -> float:
        """Return the median milliseconds of a transaction of one row: what a durable commit costs here and now."""
        times = []
        with self.fresh() as database:
            database.watch.execute("create table commit_time (at timestamptz)")
            for _ in range(100):
                begin = time.perf_counter()
                database.watch.execute("insert into commit_time values (now())")
                times.append(time.perf_counter() - begin)
        return sorted(times)[50] * 1000


def _postmaster(backend: int) -> psutil.Process | None:
    """Return the parent of a backend, if it is a process of this machine."""
    try:
        parent = psutil.Process(backend).parent()
        return parent if parent is not None and "postgres" in parent.name() else None
    except psutil.Error:
        return None


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # counted by its parent from now on
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


@attrs.define(eq=False)
class SqliteDatabase:
    """A SQLite file."""

    url: str
    path: Path

    def left(self, query: str, jobs: int) -> int:
        """Return how many jobs have no committed end. SQLite has no schemas."""
        with closing(sqlite3.connect(self.path, timeout=60)) as connection:
            return int(connection.execute(query.replace("jobrt.job", "jobrt_job")).fetchone()[0])

    def settle(self) -> None:
        """Write the log back into the file."""
        with closing(sqlite3.connect(self.path, timeout=60)) as connection:
            connection.execute("pragma wal_checkpoint(truncate)")

    def wal(self) -> float:
        """Return nan: the log is used again and again."""
        return float("nan")

    def counters(self, *, others: int = 0) -> Counters:
        """Return nothing."""
        return Counters()


@attrs.frozen
class SqliteDatabases:
    """A folder for SQLite files."""

    folder: Path

    @contextmanager
    def fresh(self, *, template: str | None = None) -> Generator[SqliteDatabase]:
        """Name a file, and remove it after the block."""
        assert template is None
        path = self.folder / f"{uuid4().hex[:12]}.db"
        yield SqliteDatabase(f"sqlite:///{path}", path)
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()

    def cpu(self) -> float:
        """Return nan: there is no server."""
        return float("nan")
