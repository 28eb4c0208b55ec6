"""Wake each queue when its next delayed job falls due; there is no tick."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import trio

from jobrt._runtime.flag import Flag

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Scheduler"]

_EARLY = 0.001
"""Seconds waited at least, so that two clocks that disagree a little cannot make a busy loop."""


@attrs.define(eq=False)
class Scheduler:
    """Sleep until the first due time that anybody announced, and wake that queue.

    Each claim that came back short announces when its queue's next job falls due, so one time per queue is enough: the
    claim that follows the wake-up announces the next one.
    """

    wake_queue: Callable[[str], None]
    due: dict[str, float] = attrs.Factory(dict)
    _changed: Flag = attrs.Factory(Flag)

    def announce(self, queue: str, delay: float) -> None:
        """Note that a job of the queue falls due in `delay` seconds; an earlier time already noted stays."""
        at = trio.current_time() + max(delay, _EARLY)
        if at < self.due.get(queue, math.inf):
            self.due[queue] = at
            self._changed.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wake queues until cancelled."""
        task_status.started()
        while True:
            with trio.move_on_at(min(self.due.values(), default=math.inf)):
                await self._changed.wait()
            now = trio.current_time()
            for queue in [queue for queue, at in self.due.items() if at <= now]:
                del self.due[queue]
                self.wake_queue(queue)
