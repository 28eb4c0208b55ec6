"""Connections of psycopg that asyncio drives, for one client and one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import psycopg

from jobrt._storage.postgres.blocking import usable
from jobrt._trio_psycopg.errors import is_stale, translate
from jobrt._trio_psycopg.pool import ENCODING, place_of
from jobrt.errors import StorageError

_SIZE: Final = 10
"""Connections of a client. A call takes milliseconds, so more tasks than that take turns."""


@attrs.define(eq=False)
class AsyncioPool:
    """Connections that are opened at first use, and checked by their socket before another use."""

    url: str = attrs.field(repr=False)  # may hold a password
    prepare: int | None
    """After how many uses a statement is prepared; None behind a pooler."""
    _slots: asyncio.Semaphore = attrs.field(factory=lambda: asyncio.Semaphore(_SIZE), init=False)
    _idle: list[psycopg.AsyncConnection[Any]] = attrs.field(factory=list[Any], init=False)
    _closed: bool = attrs.field(default=False, init=False)

    @property
    def place(self) -> str:
        """Name of the database, for messages."""
        return place_of(self.url)

    @asynccontextmanager
    async def lend(self) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        """Lend a connection for the block. Wait for one while all of them are lent.

        Raises:
            StorageUnavailable: there is no connection to be had, or it was lost; a retry may succeed.
            StorageError: the pool is closed, or the database refused a statement.

        """
        async with self._slots:
            conn = await self._take()
            try:
                yield conn
            except psycopg.Error as error:
                lost = conn.closed
                if is_stale(error):
                    await conn.close()  # another call opens another
                raise translate(error, self.place, lost=lost) from error
            finally:
                await self._give_back(conn)

    async def open_connection(self) -> psycopg.AsyncConnection[Any]:
        """Open a connection with autocommit, which the caller closes."""
        try:
            conn = await psycopg.AsyncConnection.connect(
                self.url, autocommit=True, prepare_threshold=self.prepare, client_encoding=ENCODING
            )
        except psycopg.Error as error:
            raise translate(error, f"cannot connect to {self.place}", lost=True) from error
        await conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)  # whatever the default is
        return conn

    async def close(self) -> None:
        """Close the idle connections now, and each lent one when its call has ended."""
        self._closed = True
        idle, self._idle = self._idle, []
        for conn in idle:
            await conn.close()

    async def _take(self) -> psycopg.AsyncConnection[Any]:
        if self._closed:
            raise StorageError(f"{self.place}: the client is closed")
        while self._idle:
            conn = self._idle.pop()
            if usable(conn):
                return conn
            await conn.close()
        return await self.open_connection()

    async def _give_back(self, conn: psycopg.AsyncConnection[Any]) -> None:
        """Keep a connection if its call has left it as it was: a cancelled one may not."""
        if usable(conn) and not self._closed:
            self._idle.append(conn)
        else:
            await conn.close()
