"""Let tasks take turns on one PostgreSQL connection, and listen for notifications between their turns."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType
    from typing import Self

    import psycopg

    from jobrt._trio_psycopg.connection import TrioConnection

__all__ = ["Notifications", "Turn"]


class Turn:
    """Let one task at a time use a connection, first come first served.

    Taking it while it is free neither checkpoints nor raises, unlike with `trio.Lock`: a sixth of the time of
    a small query went into that checkpoint, and psycopg takes the lock to end transactions and pipelines,
    which must work in a cancelled scope. ``after_error`` is called when a turn ends with an exception.
    """

    def __init__(self, *, after_error: Callable[[], None]) -> None:
        self._after_error = after_error
        self._owner: trio.lowlevel.Task | None = None
        self._queue = trio.lowlevel.ParkingLot()
        self._giving_way: trio.CancelScope | None = None

    async def __aenter__(self) -> None:
        task = trio.lowlevel.current_task()
        if self._owner is None:
            self._owner = task
        elif self._owner is task:
            raise RuntimeError("this task is using the connection already: finish its COPY or stream() first")
        else:
            if self._giving_way:
                self._giving_way.cancel()
            await self._queue.park()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._after_error()
        self._owner = self._queue.unpark(count=1)[0] if self._queue else None

    @contextmanager
    def giving_way(self) -> Generator[None]:
        """Let the owner's block be cancelled as soon as another task wants a turn."""
        with trio.CancelScope() as scope:
            if self._queue:
                scope.cancel()
            self._giving_way = scope
            try:
                yield
            finally:
                self._giving_way = None


class Notifications:
    """Iterate asynchronously over the notifications of one connection; `TrioConnection.notifies` makes it."""

    def __init__(self, conn: TrioConnection[Any], *, timeout: float | None, stop_after: int | None) -> None:
        self._conn = conn
        self._deadline = math.inf if timeout is None else trio.current_time() + timeout
        self._left = math.inf if stop_after is None else stop_after

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> psycopg.Notify:
        if self._left > 0:
            with trio.CancelScope(deadline=self._deadline):
                await self._conn.wait_notified()
                self._left -= 1
                return self._conn.inbox.popleft()
        raise StopAsyncIteration
