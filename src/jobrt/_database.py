"""The database of an app: opened by whoever needs it, shared where that is possible, awaited while it is away."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from jobrt._runtime.outage import Backoff, Outage
from jobrt._storage.open import open_storage, parse_url
from jobrt.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from jobrt._storage.contract import Storage
    from jobrt.events import EventBus


@attrs.define(eq=False)
class Database:
    """Address and settings of a database, and the storage that is open on it.

    Args:
        url: names the engine and the database; see `parse_url`.
        schema: the PostgreSQL schema of the tables.
        listen: whether workers are woken by LISTEN and NOTIFY.
        migrate: whether opening it brings it up to date; None: only on SQLite.
        clock: the clock that SQLite goes by (aware UTC datetimes), for tests; None: the machine's.

    Raises:
        StorageError: the URL names no database.

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
        """Return ``"sqlite"`` or ``"postgres"``."""
        return parse_url(self.url).engine

    @property
    def migrates(self) -> bool:
        """Return whether opening this database brings it up to date."""
        return self.engine == "sqlite" if self.migrate is None else self.migrate

    def at(self, url: str) -> Database:
        """Return a database with these settings at another URL, and with the machine's clock."""
        return Database(url, self.schema, self.listen, self.migrate)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Storage]:
        """Open the storage.

        On SQLite all users within a program share one. In memory there is no other way, and on a file they wake each
        other at once. On PostgreSQL each has connections of its own, and a task that tends them.
        """
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
    """Storage that stays open while anybody in this program uses it.

    It has no tasks of its own, since whoever closes it need not be who opened it.
    """

    open_new: Callable[[], AbstractAsyncContextManager[Storage]]
    users: int = 0
    storage: Storage | None = None
    stack: AsyncExitStack = attrs.Factory(AsyncExitStack)
    lock: trio.Lock = attrs.Factory(trio.Lock)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Storage]:
        """Open the storage, or share the open one; the last user closes it."""
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


@asynccontextmanager
async def await_storage(
    open_ready: Callable[[], AbstractAsyncContextManager[Storage]], *, emit: EventBus
) -> AsyncGenerator[Storage]:
    """Open a storage, however long the database is away; report the outage and its end as events.

    Args:
        open_ready: opens the storage and checks its schema.
        emit: gets `StorageDown` and `StorageUp`.

    Raises:
        SchemaError: the database is not migrated, or newer.
        StorageError: waiting will not help: a wrong password, missing rights, an unknown database.

    """
    backoff = Backoff(Outage(emit))
    async with AsyncExitStack() as stack:
        storage: Storage | None = None
        while storage is None:
            try:
                storage = await stack.enter_async_context(open_ready())
            except StorageUnavailable as error:
                await backoff.wait(error)
        backoff.reset()
        yield storage
