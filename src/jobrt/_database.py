"""Database of an app: its settings and its open storage."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime

import attrs
import trio

from jobrt._core.database_url import parse_url
from jobrt._storage.contract import Storage
from jobrt._storage.open import open_storage
from jobrt._storage.trio_only import refuse_asyncio


@attrs.define(eq=False)
class Database:
    """URL and settings of a database, and its open storage.

    Args:
        url: URL of engine and database, see `parse_url`.
        schema: PostgreSQL schema of the tables.
        listen: whether workers are woken by LISTEN and NOTIFY.
        migrate: whether the database is migrated when it is opened; None: only SQLite.
        clock: clock of SQLite (aware UTC datetimes), for tests; None: that of the machine.

    Raises:
        StorageError: the URL is invalid.

    """

    url: str = attrs.field(validator=lambda _self, _field, url: parse_url(url))
    schema: str
    listen: bool
    migrate: bool | None
    clock: Callable[[], datetime] | None = None
    _shared: _Shared = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._shared = _Shared(self._open)

    @property
    def engine(self) -> str:
        """``"sqlite"`` or ``"postgres"``."""
        return parse_url(self.url).engine

    @property
    def migrates(self) -> bool:
        """Whether the database is migrated when it is opened."""
        return self.engine == "sqlite" if self.migrate is None else self.migrate

    def at(self, url: str) -> Database:
        """Return a database with these settings at another URL, and with the clock of the machine."""
        return Database(url, self.schema, self.listen, self.migrate)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Storage]:
        """Open the storage.

        On SQLite all users in a program share a storage: they need it for a database in memory, and on a file they
        wake each other immediately. On PostgreSQL each has its own connections and a task for them.

        Raises:
            WrongEventLoop: this is not Trio.

        """
        refuse_asyncio()
        opened = self._shared.open if self.engine == "sqlite" else self._open
        async with opened() as storage:
            yield storage

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[Storage]:
        async with open_storage(
            self.url, schema=self.schema, listen=self.listen, migrate=self.migrates, clock=self.clock
        ) as storage:
            if self.migrates and self.engine != "sqlite":
                await storage.schema.migrate()
            yield storage


@attrs.define(eq=False)
class _Shared:
    """Storage that stays open while it has users.

    It has no tasks, because the task that closes it can be another than the one that opened it.
    """

    open_new: Callable[[], AbstractAsyncContextManager[Storage]]
    users: int = 0
    storage: Storage | None = None
    stack: AsyncExitStack = attrs.Factory(AsyncExitStack)
    lock: trio.Lock = attrs.Factory(trio.Lock)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Storage]:
        """Open the storage, or share the open storage; the last user closes it."""
        async with self.lock:
            storage = self.storage
            if storage is None:
                self.stack = AsyncExitStack()
                self.storage = storage = await self.stack.enter_async_context(self.open_new())
            self.users += 1
        try:
            yield storage
        finally:
            self.users -= 1
            if not self.users:
                self.storage = None
                await self.stack.aclose()
