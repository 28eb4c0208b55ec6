"""Statements on a connection: a caller's psycopg connection, or one of the pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from psycopg import AsyncRawCursor, RawCursor, pq
from psycopg.adapt import AdaptersMap
from psycopg.postgres import register_default_adapters, register_default_types
from psycopg.rows import tuple_row
from psycopg.types import TypesRegistry
from psycopg.types.array import register_all_arrays

from jobrt._storage.postgres.names import Copy, Run, Schema, Statement
from jobrt._storage.postgres.rows import Row

if TYPE_CHECKING:
    import psycopg

    from jobrt._trio_psycopg.prepared import PreparedStatements


def _plain_adapters() -> AdaptersMap:
    """Return psycopg's own adapters, without those that a program has registered."""
    types = TypesRegistry()
    register_default_types(types)
    adapters = AdaptersMap(types=types)
    register_default_adapters(adapters)
    register_all_arrays(adapters)
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


@attrs.define(eq=False)
class Session:
    """A connection in use, and the names of one schema. The connection runs on Trio or asyncio."""

    conn: psycopg.AsyncConnection[Any]
    schema: Schema

    async def fetch(self, name: str, /, **values: str | None) -> list[Row]:
        """Run the statement of a file and return its rows."""
        return await self.run(self.schema.statement(name), **values)

    async def run(self, statement: Statement, /, **values: str | None) -> list[Row]:
        """Run a statement and return its rows."""
        cursor = self._cursor()
        await cursor.execute(statement.text, statement.arguments(values))
        result = cursor.pgresult  # `description` would make an object for every column
        return await cursor.fetchall() if result and result.nfields else []

    async def run_step(self, step: Run | Copy) -> list[Row]:
        """Run a statement and return its rows, or send rows to a COPY."""
        if isinstance(step, Run):
            return await self.run(step.statement, **step.values)
        async with self._cursor().copy(step.statement.text) as copy:
            for block in step.blocks:
                await copy.write(block)
        return []

    def _cursor(self) -> _AsyncCursor:
        cursor = _AsyncCursor(self.conn, row_factory=tuple_row)
        cursor.format = pq.Format.BINARY
        return cursor


@attrs.define(eq=False)
class PreparedSession(Session):
    """A dedicated session, where statements stay prepared."""

    prepared: PreparedStatements

    async def run(self, statement: Statement, /, **values: str | None) -> list[Row]:
        """Run a statement and return its rows."""
        return await self.prepared.run(statement.text, statement.arguments(values))


@attrs.define(eq=False)
class BlockingSession:
    """A connection of plain psycopg, for programs without an event loop."""

    conn: psycopg.Connection[Any]

    def run(self, statement: Statement, /, **values: str | None) -> list[Row]:
        """Run a statement and return its rows."""
        cursor = self._cursor().execute(statement.text, statement.arguments(values))
        return cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []

    def run_step(self, step: Run | Copy) -> list[Row]:
        """Run a statement and return its rows, or send rows to a COPY."""
        if isinstance(step, Run):
            return self.run(step.statement, **step.values)
        with self._cursor().copy(step.statement.text) as copy:
            for block in step.blocks:
                copy.write(block)
        return []

    def _cursor(self) -> _Cursor:
        cursor = _Cursor(self.conn, row_factory=tuple_row)
        cursor.format = pq.Format.BINARY
        return cursor
