"""Iterator over the notifications of a PostgreSQL connection."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections import deque
    from typing import Self

    import psycopg


class Source(Protocol):
    """Interface of a connection that receives notifications."""

    inbox: deque[psycopg.Notify]

    async def wait_notified(self) -> None:
        """Wait until there is a notification in ``inbox``."""
        ...


class Notifications:
    """Asynchronous iterator over the notifications of a connection, created by `TrioConnection.notifies`."""

    def __init__(self, source: Source, *, timeout: float | None, stop_after: int | None) -> None:
        self._source = source
        self._deadline = math.inf if timeout is None else trio.current_time() + timeout
        self._left = math.inf if stop_after is None else stop_after

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> psycopg.Notify:
        if self._left > 0:
            with trio.CancelScope(deadline=self._deadline):
                await self._source.wait_notified()
                self._left -= 1
                return self._source.inbox.popleft()
        raise StopAsyncIteration
