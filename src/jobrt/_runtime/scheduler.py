"""Actor that wakes each queue when its next delayed job becomes due, without polling."""

import math
from collections.abc import Mapping

import attrs
import trio

from jobrt._runtime.channels import Wakeup
from jobrt._runtime.messages import Due

_EARLY = 0.001
"""Minimum delay in seconds, so that a small difference between two clocks cannot cause a busy loop."""


@attrs.define(eq=False, kw_only=True)
class Scheduler:
    """Actor that sleeps until the earliest announced due time and wakes that queue.

    One time per queue is enough, because the claim after the wake-up announces the next time. After a restart the times
    are unknown, so every queue is woken.
    """

    queues: Mapping[str, Wakeup]
    announced: trio.MemoryReceiveChannel[Due]
    _due: dict[str, float] = attrs.Factory(dict)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wake queues until cancelled."""
        self._due = dict.fromkeys(self.queues, -math.inf)
        task_status.started()
        while True:
            self._wake(trio.current_time())
            with trio.move_on_at(min(self._due.values(), default=math.inf)):
                self._note(await self.announced.receive())

    def _note(self, due: Due) -> None:
        """Remember the earliest time of a queue."""
        at = trio.current_time() + max(due.seconds, _EARLY)
        self._due[due.queue] = min(at, self._due.get(due.queue, math.inf))

    def _wake(self, now: float) -> None:
        for queue in [queue for queue, at in self._due.items() if at <= now]:
            del self._due[queue]
            self.queues[queue].ring()
