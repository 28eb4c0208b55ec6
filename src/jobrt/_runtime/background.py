"""Nursery of the worker for attempts: delayed writes, and services that outlive one attempt."""

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio


@attrs.define(eq=False)
class Background:
    """Owner of a nursery while the worker runs."""

    _nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the nursery open until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    def later(self, seconds: float, function: Callable[[], Awaitable[None]]) -> None:
        """Call `function` after `seconds`, unless the worker stops first."""
        if self._nursery is not None:
            self._nursery.start_soon(_later, seconds, function)

    async def start(self, service: Callable[..., Awaitable[Any]]) -> Any:
        """Start a service that runs as long as the worker, and return the value that it passed to ``started``."""
        if self._nursery is None:
            raise RuntimeError("the worker is stopping")
        return await self._nursery.start(service)


async def _later(seconds: float, function: Callable[[], Awaitable[None]]) -> None:
    await trio.sleep(seconds)
    await function()
