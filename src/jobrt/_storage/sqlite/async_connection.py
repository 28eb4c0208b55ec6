"""The connection of an open transaction, with the methods of psycopg's asynchronous one.

A job that writes with ``await conn.execute(…)`` therefore runs on both engines. SQLite's own placeholders work, and so
do those of psycopg.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeVar

import trio

from jobrt._storage.sqlite.placeholders import native
from jobrt.errors import StorageError

T = TypeVar("T")

Parameters: TypeAlias = "Mapping[str, Any] | Sequence[Any] | None"


class Run(Protocol):
    """Where calls run: in the storage's thread, or in the event loop for a database in memory."""

    async def __call__(self, call: Callable[[], T], /) -> T:
        """Call and return the result."""
        ...


class AsyncConnection:
    """Connection of an open transaction, for the block that opened it. Its calls take turns.

    Attributes:
        raw: the connection of ``sqlite3``, for what has no method here. Its calls block the event loop.

    """

    def __init__(self, raw: sqlite3.Connection, run: Run) -> None:
        self.raw = raw
        self._run = run
        self._turn = trio.Lock()
        self._over = False
        self._savepoints = count(1)

    async def execute(self, sql: str, params: Parameters = None) -> AsyncCursor:
        """Run a statement and return a cursor with all of its rows.

        Placeholders are ``?`` and ``:name``, or ``%s`` and ``%(name)s`` as in psycopg.

        Raises:
            sqlite3.Error: SQLite refused it.
            StorageError: the transaction is over.

        """
        return await self.cursor().execute(sql, params)

    def cursor(self) -> AsyncCursor:
        """Return a cursor, which need not be closed."""
        return AsyncCursor(self)

    @property
    def row_factory(self) -> Any:
        """What makes a row of a tuple, as in ``sqlite3``: ``conn.row_factory = sqlite3.Row``."""
        return self.raw.row_factory

    @row_factory.setter
    def row_factory(self, factory: Any) -> None:
        self.raw.row_factory = factory

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        """Open a savepoint for a block: if the block raises, what it wrote is undone, and nothing else."""
        name = f"jobrt_block_{next(self._savepoints)}"
        await self.execute(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            with trio.CancelScope(shield=True):  # as short as a savepoint is
                if self.raw.in_transaction:
                    await self.execute(f"ROLLBACK TO {name}")
                    await self.execute(f"RELEASE {name}")
            raise
        await self.execute(f"RELEASE {name}")

    async def commit(self) -> None:
        """Raise `StorageError`: the end of the block commits."""
        await trio.lowlevel.checkpoint()
        raise StorageError(
            "conn.commit() inside the block of a transaction: leave it out, the block's end commits"
        )

    async def rollback(self) -> None:
        """Raise `StorageError`: an exception rolls back."""
        await trio.lowlevel.checkpoint()
        raise StorageError("conn.rollback() inside the block of a transaction: raise an exception instead")

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Call with the connection of ``sqlite3``, in the storage's thread.

        If the caller is cancelled meanwhile, a long statement is interrupted.
        """
        async with self._turn:
            if self._over:
                raise StorageError("the transaction is over: use its connection inside the block only")
            try:
                return await self._run(partial(work, self.raw))
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                    await trio.lowlevel.checkpoint_if_cancelled()  # then it was interrupted for that
                raise

    async def end(self) -> None:
        """Refuse further calls, after the one that runs."""
        async with self._turn:
            self._over = True


class AsyncCursor:
    """Result of a statement. All rows have been read when `execute` returns, as with psycopg.

    Attributes:
        description: a tuple for each column, its name first; None for a statement without rows.
        rowcount: number of rows that were read, or else changed.
        lastrowid: id of the row that was inserted last.

    """

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self.description: Sequence[Sequence[Any]] | None = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self._rows: list[Any] = []
        self._next = 0

    async def execute(self, sql: str, params: Parameters = None) -> Self:
        """Run a statement and return this cursor."""
        return await self._fill(partial(_execute, sql=sql, params=() if params is None else params))

    async def executemany(self, sql: str, params_seq: Iterable[Mapping[str, Any] | Sequence[Any]]) -> Self:
        """Run a statement once for each item and return this cursor; ``rowcount`` is that of all together."""
        return await self._fill(partial(_execute_many, sql=sql, params_seq=params_seq))

    async def _fill(self, work: Callable[[sqlite3.Connection], tuple[sqlite3.Cursor, list[Any]]]) -> Self:
        self._rows, self._next, self.description, self.rowcount = [], 0, None, -1
        cursor, self._rows = await self.connection.call(work)
        self.description, self.lastrowid = cursor.description, cursor.lastrowid
        self.rowcount = len(self._rows) if cursor.description else cursor.rowcount
        return self

    async def fetchone(self) -> Any:
        """Return the next row, or None."""
        rows = await self.fetchmany(1)
        return rows[0] if rows else None

    async def fetchmany(self, size: int = 1) -> list[Any]:
        """Return the next rows, at most `size`."""
        await trio.lowlevel.checkpoint()
        rows = self._rows[self._next : self._next + size]
        self._next += len(rows)
        return rows

    async def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        return await self.fetchmany(len(self._rows))

    async def close(self) -> None:
        """Drop the rows that are left."""
        await trio.lowlevel.checkpoint()
        self._rows = []

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        rows = await self.fetchmany(1)
        if not rows:
            raise StopAsyncIteration
        return rows[0]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows = []


def _execute(
    connection: sqlite3.Connection, *, sql: str, params: Mapping[str, Any] | Sequence[Any]
) -> tuple[sqlite3.Cursor, list[Any]]:
    cursor = connection.execute(native(sql) if params else sql, params)
    return cursor, cursor.fetchall()


def _execute_many(
    connection: sqlite3.Connection, *, sql: str, params_seq: Iterable[Mapping[str, Any] | Sequence[Any]]
) -> tuple[sqlite3.Cursor, list[Any]]:
    return connection.executemany(native(sql), params_seq), []
