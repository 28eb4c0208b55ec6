"""Statements on a connection: a caller's psycopg connection, or one of the pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import attrs
import psycopg
from psycopg import AsyncRawCursor, RawCursor, pq
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.postgres import register_default_adapters, register_default_types
from psycopg.rows import tuple_row
from psycopg.types import TypesRegistry
from psycopg.types.array import register_all_arrays

from jobrt._storage.postgres.encode import Bigints, Value
from jobrt._storage.postgres.grants import remedy
from jobrt._storage.postgres.names import Copy, Run, Schema, Statement
from jobrt._storage.postgres.rows import Row
from jobrt._trio_psycopg.errors import one_line
from jobrt.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jobrt._trio_psycopg.prepared import PreparedStatements

T = TypeVar("T")


class Transact(Protocol):
    """A way to run work in a session, mostly in a transaction of its own."""

    async def __call__(self, work: Callable[[Session], Awaitable[T]], /) -> T:
        """Run work and return its result."""
        ...


class BigintsDumper(Dumper):
    """Sends `Bigints` as they are."""

    format = pq.Format.BINARY
    oid = 1016

    def dump(self, obj: Bigints) -> Bigints:
        """Return the value in the binary format."""
        return obj


def _plain_adapters() -> AdaptersMap:
    """Return psycopg's own adapters, without those that a program has registered."""
    types = TypesRegistry()
    register_default_types(types)
    adapters = AdaptersMap(types=types)
    register_default_adapters(adapters)
    register_all_arrays(adapters)
    adapters.register_dumper(Bigints, BigintsDumper)
    return adapters


_ADAPTERS = _plain_adapters()


class _AsyncCursor(AsyncRawCursor[Row]):
    """Cursor for statements of ours on any connection: what a caller has registered there does not apply."""

    @property
    def adapters(self) -> AdaptersMap:
        return _ADAPTERS


class _Cursor(RawCursor[Row]):
    """As `_AsyncCursor`, for plain psycopg."""

    @property
    def adapters(self) -> AdaptersMap:
        return _ADAPTERS


def _not_permitted(
    error: psycopg.Error, statement: Statement, conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]
) -> StorageError:
    """Return the error for a statement that the role of the connection may not run; it names the grants."""
    role = conn.info.user
    where = getattr(conn, "where", f"PostgreSQL as {role}")
    return StorageError(f"{where}: {one_line(error)}; {remedy(statement.name, role)}")


@attrs.define(eq=False)
class Session:
    """A connection in use, and the names of one schema. The connection runs on Trio or asyncio."""

    conn: psycopg.AsyncConnection[Any]
    schema: Schema
    prepare: bool | None = attrs.field(default=None, kw_only=True)
    """Whether to prepare statements; None leaves it to the connection."""

    async def lend(self, work: Callable[[Session], Awaitable[T]], /) -> T:
        """Run work in this session, where others may have a transaction of their own; see `Transact`."""
        return await work(self)

    async def fetch(self, name: str, /, **values: Value) -> list[Row]:
        """Run the statement of a file and return its rows."""
        return await self.run(self.schema.statement(name), **values)

    async def run(self, statement: Statement, /, **values: Value) -> list[Row]:
        """Run a statement and return its rows."""
        cursor = self._cursor()
        try:
            await cursor.execute(statement.text, statement.arguments(values), prepare=self.prepare)
        except psycopg.errors.InsufficientPrivilege as error:
            raise _not_permitted(error, statement, self.conn) from error
        result = cursor.pgresult  # `description` would make an object for every column
        return await cursor.fetchall() if result and result.nfields else []

    async def run_step(self, step: Run | Copy) -> list[Row]:
        """Run a statement and return its rows, or send rows to a COPY."""
        if isinstance(step, Run):
            return await self.run(step.statement, **step.values)
        try:
            async with self._cursor().copy(step.statement.text) as copy:
                for block in step.blocks:
                    await copy.write(block)
        except psycopg.errors.InsufficientPrivilege as error:
            raise _not_permitted(error, step.statement, self.conn) from error
        return []

    def _cursor(self) -> _AsyncCursor:
        cursor = _AsyncCursor(self.conn, row_factory=tuple_row)
        cursor.format = pq.Format.BINARY
        return cursor


@attrs.define(eq=False)
class PreparedSession(Session):
    """A dedicated session, where statements stay prepared."""

    prepared: PreparedStatements

    async def run(self, statement: Statement, /, **values: Value) -> list[Row]:
        """Run a statement and return its rows."""
        try:
            return await self.prepared.run(statement.text, statement.arguments(values))
        except psycopg.errors.InsufficientPrivilege as error:
            raise _not_permitted(error, statement, self.conn) from error


@attrs.define(eq=False)
class BlockingSession:
    """A connection of plain psycopg, for programs without an event loop."""

    conn: psycopg.Connection[Any]

    def run(self, statement: Statement, /, **values: Value) -> list[Row]:
        """Run a statement and return its rows."""
        try:
            cursor = self._cursor().execute(statement.text, statement.arguments(values))
        except psycopg.errors.InsufficientPrivilege as error:
            raise _not_permitted(error, statement, self.conn) from error
        return cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []

    def run_step(self, step: Run | Copy) -> list[Row]:
        """Run a statement and return its rows, or send rows to a COPY."""
        if isinstance(step, Run):
            return self.run(step.statement, **step.values)
        try:
            with self._cursor().copy(step.statement.text) as copy:
                for block in step.blocks:
                    copy.write(block)
        except psycopg.errors.InsufficientPrivilege as error:
            raise _not_permitted(error, step.statement, self.conn) from error
        return []

    def _cursor(self) -> _Cursor:
        cursor = _Cursor(self.conn, row_factory=tuple_row)
        cursor.format = pq.Format.BINARY
        return cursor
