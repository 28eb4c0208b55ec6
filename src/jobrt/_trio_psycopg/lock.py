"""The lock of a PostgreSQL connection."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import TracebackType

import trio
from trio.lowlevel import current_task


class ConnectionLock:
    """Lock that lets one task at a time use a connection, in the order of requests.

    Unlike `trio.Lock`, acquiring it while it is free is not a checkpoint. That checkpoint took a sixth of the time
    of a small query. And psycopg takes the lock to end transactions and pipelines, which must work in a cancelled
    scope. ``after_error`` is called when a block ends with an exception.
    """

    def __init__(self, *, after_error: Callable[[], None]) -> None:
        self._after_error = after_error
        self._owner: trio.lowlevel.Task | None = None
        self._queue = trio.lowlevel.ParkingLot()
        self._interruptible: trio.CancelScope | None = None

    async def __aenter__(self) -> None:
        task = current_task()
        if self._owner is None:
            self._owner = task
        elif self._owner is task:
            raise RuntimeError("this task is already using the connection: finish its COPY or stream() first")
        else:
            if self._interruptible:
                self._interruptible.cancel()
            await self._queue.park()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._after_error()
        # Handing the lock over, rather than releasing it, keeps a task that comes now from overtaking the queue.
        self._owner = self._queue.unpark(count=1)[0] if self._queue else None

    @contextmanager
    def until_requested(self) -> Generator[None]:
        """Cancel the owner's block when another task requests the lock."""
        with trio.CancelScope() as scope:
            if self._queue:
                scope.cancel()
            self._interruptible = scope
            try:
                yield
            finally:
                self._interruptible = None
