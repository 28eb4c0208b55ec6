"""Engines for the conformance tests: a storage, a clock that can be moved, and direct access to the database.

No product code knows of any of this. SQLite takes its clock as a parameter. PostgreSQL has only its own, so time is
moved on by setting back every time that is stored, which comes to the same; tests therefore compare times with each
other or with `SchemaStore.now`, and never with one that they read before they moved the clock.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    closing,
    contextmanager,
)
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, LiteralString, TypeVar, cast

import attrs
import psycopg
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from jobrt._storage.contract import Storage

__all__ = ["PATIENCE", "START", "Caller", "Clock", "Engine", "Memory", "Pooled", "Postgres", "Sqlite"]

T = TypeVar("T")
Execute = Callable[[str], list[tuple[Any, ...]]]
"""Function that runs a statement and returns its rows."""

START: Final = datetime(2031, 5, 14, 9, 26, 53, 589_793, tzinfo=UTC)
PATIENCE: Final = 20
"""Seconds that real I/O may take before a test fails instead of hanging."""


@attrs.define(eq=False)
class Clock:
    """A clock that moves only when the test moves it."""

    now: datetime = START

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now


@attrs.frozen
class Caller:
    """An application's own connection, with an open transaction."""

    conn: Any
    execute: Callable[[str], Any]
    commit: Callable[[], Any]
    rollback: Callable[[], Any]


class Engine(ABC):
    """One database of one engine; the first process uses it through `storage`."""

    name: str
    storage: Storage
    shareable: bool = True
    """Whether other processes, and callers with their own connections, can open the database."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Storage]:
        """Open the database as another process would; in-memory databases have only the first process."""

    @abstractmethod
    async def advance(self, seconds: float) -> None:
        """Let time pass."""

    @abstractmethod
    async def session(self, work: Callable[[Execute], T]) -> T:
        """Call `work` with a function that runs a statement directly on the database and returns its rows.

        Each statement is committed. Connecting to PostgreSQL costs more than most statements, so one session has all
        of a call's.
        """

    async def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement directly on the database, commit it, and return its rows."""
        return await self.session(lambda execute: execute(statement))

    @abstractmethod
    def caller(self) -> AbstractAsyncContextManager[Caller]:
        """Open a connection as an application would; what is left open at the end is rolled back."""

    @abstractmethod
    def tables_in(self, execute: Execute) -> dict[str, set[str]]:
        """Return the columns of every table, by the table's name as SQL wants it."""

    async def tables(self) -> dict[str, set[str]]:
        """Return the columns of every table, by the table's name as SQL wants it."""
        return await self.session(self.tables_in)

    @abstractmethod
    async def refuse(self, operation: str, condition: str) -> None:
        """Make the database refuse to insert, update or delete rows of the job table for which `condition` holds."""

    async def allow(self, operation: str) -> None:
        """Undo `refuse`."""
        of_table = f" on {await self.job_table()}" if isinstance(self, Postgres) else ""
        await self.execute(f"drop trigger refuse_{operation}{of_table}")

    @abstractmethod
    async def save(self) -> None:
        """Keep a copy of all rows and counters, as a dump does."""

    @abstractmethod
    async def restore(self) -> None:
        """Set the whole database back to the copy, while it is in use."""

    async def table(self, *columns: str) -> str:
        """Return the name of the one table that has these columns."""
        (found,) = [name for name, has in (await self.tables()).items() if has.issuperset(columns)]
        return found

    async def job_table(self) -> str:
        """Return the name of the table of jobs."""
        return await self.table("id", "queue", "priority", "schedule_at", "lease", "worker")

    async def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every table: equal before and after when nothing was changed."""
        return await self.session(
            lambda execute: {
                name: sorted(execute(f"select * from {name}"), key=repr) for name in self.tables_in(execute)
            }
        )


class _AnySqlite(Engine):
    """Base class for SQLite in files and in memory."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.saved = sqlite3.connect(":memory:", check_same_thread=False)

    @abstractmethod
    def connection(self) -> AbstractContextManager[sqlite3.Connection]:
        """Open a connection to the database."""

    async def save(self) -> None:
        await trio.lowlevel.checkpoint()
        with self.connection() as connection:
            connection.backup(self.saved)

    async def restore(self) -> None:
        await trio.lowlevel.checkpoint()
        with self.connection() as connection:
            self.saved.backup(connection)

    async def advance(self, seconds: float) -> None:
        await trio.lowlevel.checkpoint()
        self.clock.now += timedelta(seconds=seconds)

    def tables_in(self, execute: Execute) -> dict[str, set[str]]:
        rows = execute(
            "select m.name, c.name from sqlite_master m, pragma_table_info(m.name) c"
            " where m.type = 'table' and m.name not like 'sqlite_%'"
        )
        found: dict[str, set[str]] = {}
        for table, column in rows:
            found.setdefault(table, set()).add(column)
        return found

    async def refuse(self, operation: str, condition: str) -> None:
        await self.execute(
            f"create trigger refuse_{operation} before {operation} on {await self.job_table()}"
            f" when {condition} begin select raise(abort, 'refused by the test'); end"
        )


class Memory(_AnySqlite):
    """SQLite in memory: one process, one connection."""

    name = "memory"
    shareable = False

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Storage]:
        await trio.lowlevel.checkpoint()
        yield self.storage

    @contextmanager
    def connection(self) -> Generator[sqlite3.Connection]:
        yield connection_of(self.storage)

    async def session(self, work: Callable[[Execute], T]) -> T:
        await trio.lowlevel.checkpoint()
        connection = connection_of(self.storage)
        return work(lambda statement: connection.execute(statement).fetchall())

    @asynccontextmanager
    async def caller(self) -> AsyncGenerator[Caller]:
        raise NotImplementedError("another process cannot open a database in memory")
        yield


class Sqlite(_AnySqlite):
    """SQLite in a file: several processes, each with a writer thread."""

    name = "sqlite"

    def __init__(self, clock: Clock, path: Path) -> None:
        super().__init__(clock)
        self.path = path

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Storage]:
        from jobrt._storage.sqlite import open_sqlite

        async with open_sqlite(self.path, clock=self.clock) as storage:
            yield storage

    @contextmanager
    def connection(self) -> Generator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=PATIENCE)) as connection:
            yield connection

    async def session(self, work: Callable[[Execute], T]) -> T:
        def run() -> T:
            with closing(sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)) as connection:
                return work(lambda statement: connection.execute(statement).fetchall())

        return await trio.to_thread.run_sync(run)

    @asynccontextmanager
    async def caller(self) -> AsyncGenerator[Caller]:
        with closing(sqlite3.connect(self.path, timeout=PATIENCE)) as connection:
            connection.execute("begin")

            async def call(function: Callable[..., Any], *arguments: Any) -> Any:
                await trio.lowlevel.checkpoint()
                return function(*arguments)

            yield Caller(
                connection,
                lambda statement: call(connection.execute, statement),
                lambda: call(connection.commit),
                lambda: call(connection.rollback),
            )


class Postgres(Engine):
    """A PostgreSQL database with jobrt's schema."""

    name = "postgres"

    def __init__(self, url: str, *, schema: str = "jobrt") -> None:
        self.url = url
        self.schema = schema

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Storage]:
        from jobrt._storage.postgres import open_postgres

        async with open_postgres(self.url, schema=self.schema) as storage:
            yield storage

    async def advance(self, seconds: float) -> None:
        await self.session(lambda execute: self._advance(execute, seconds))

    def _advance(self, execute: Execute, seconds: float) -> None:
        rows = execute(
            "select table_name, column_name from information_schema.columns"
            " join information_schema.tables using (table_schema, table_name)"
            f" where table_schema = '{self.schema}' and table_type = 'BASE TABLE'"
            " and data_type = 'timestamp with time zone' order by 1, 2"
        )
        columns: dict[str, list[str]] = {}
        for table, column in rows:
            columns.setdefault(table, []).append(column)
        back = f"- make_interval(secs => {seconds!r})"
        for table, names in columns.items():
            sets = ", ".join(f'"{name}" = "{name}" {back}' for name in names)
            execute(f'update "{self.schema}"."{table}" set {sets}')

    async def session(self, work: Callable[[Execute], T]) -> T:
        def run() -> T:
            with psycopg.connect(self.url, autocommit=True, connect_timeout=PATIENCE) as connection:

                def execute(statement: str) -> list[tuple[Any, ...]]:
                    cursor = connection.execute(cast("LiteralString", statement))
                    return cursor.fetchall() if cursor.description else []

                return work(execute)

        return await trio.to_thread.run_sync(run)

    @asynccontextmanager
    async def caller(self) -> AsyncGenerator[Caller]:
        from jobrt._trio_psycopg import TrioConnection

        connection = await TrioConnection.connect(self.url)
        try:
            await connection.execute("select 1")
            yield Caller(connection, connection.execute, connection.commit, connection.rollback)
        finally:
            with trio.CancelScope(deadline=trio.current_time() + 5, shield=True):
                await connection.close()

    async def save(self) -> None:
        await self.session(self._save)

    def _save(self, execute: Execute) -> None:
        execute("create schema saved")
        for table in self.tables_in(execute):
            execute(f"create table saved.{_name(table)} as table {table}")
        for (sequence,) in self._sequences(execute):
            execute(
                f"create table saved.{sequence} as select last_value, is_called from {self.schema}.{sequence}"
            )

    async def restore(self) -> None:
        await self.session(self._restore)

    def _restore(self, execute: Execute) -> None:
        steps = ["begin", "set local session_replication_role = replica"]
        for table in self.tables_in(execute):
            steps += [
                f"delete from {table}",
                f"insert into {table} overriding system value table saved.{_name(table)}",
            ]
        for (sequence,) in self._sequences(execute):
            steps.append(
                f"select setval('{self.schema}.{sequence}', last_value, is_called) from saved.{sequence}"
            )
        execute("; ".join([*steps, "commit"]))

    def _sequences(self, execute: Execute) -> list[tuple[Any, ...]]:
        return execute(f"select sequencename from pg_sequences where schemaname = '{self.schema}'")

    def tables_in(self, execute: Execute) -> dict[str, set[str]]:
        rows = execute(
            "select table_name, column_name from information_schema.columns"
            " join information_schema.tables using (table_schema, table_name)"
            f" where table_schema = '{self.schema}' and table_type = 'BASE TABLE'"
        )
        found: dict[str, set[str]] = {}
        for table, column in rows:
            found.setdefault(f"{self.schema}.{table}", set()).add(column)
        return found

    async def refuse(self, operation: str, condition: str) -> None:
        await self.execute(
            "create or replace function public.refuse() returns trigger language plpgsql as"
            " $$ begin raise exception 'refused by the test'; end $$"
        )
        await self.execute(
            f"create trigger refuse_{operation} before {operation} on {await self.job_table()}"
            f" for each row when ({condition}) execute function public.refuse()"
        )


class Pooled(Postgres):
    """The same behind PgBouncer in transaction mode; direct access bypasses the pooler."""

    def __init__(self, url: str, pooled: str) -> None:
        super().__init__(url)
        self.pooled = pooled

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Storage]:
        from jobrt._storage.postgres import open_postgres

        async with open_postgres(self.pooled, schema=self.schema, listen=False) as storage:
            yield storage


def _name(table: str) -> str:
    return table.rpartition(".")[2]


def connection_of(storage: Storage) -> sqlite3.Connection:
    """Find the one connection that a storage in memory holds, wherever it keeps it."""
    seen: set[int] = set()
    look: list[object] = [storage]
    while look:
        one = look.pop()
        if isinstance(one, sqlite3.Connection):
            return one
        if id(one) in seen or not type(one).__module__.startswith("jobrt"):
            continue
        seen.add(id(one))
        slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
        look += [getattr(one, name, None) for name in slots]
        look += list(getattr(one, "__dict__", {}).values())
    raise LookupError("a storage in memory holds its connection in an attribute, or in one's attribute")
