"""Run claimed jobs, so many at once."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jobrt._core.job import Claimed
    from jobrt._runtime.queue_state import QueueState

__all__ = ["Executors"]

_CHECKPOINT_EVERY = 32
"""Attempts that may run in a row without letting others run: a quick job need not contain a checkpoint."""


@attrs.define(eq=False)
class Executors:
    """Keep up to ``concurrency`` long-lived tasks that take jobs from the queue's inbox.

    Tasks are started when there is more work than idle tasks, and end when the queue is scaled down.
    """

    queue: QueueState
    perform: Callable[[Claimed, QueueState], Awaitable[None]]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run jobs until cancelled."""
        self.queue.executors = 0
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                self._grow(nursery)
                await self.queue.grow.wait()

    def _grow(self, nursery: trio.Nursery) -> None:
        wanted = min(self.queue.concurrency - self.queue.executors, len(self.queue.inbox))
        for _ in range(wanted):
            self.queue.executors += 1
            nursery.start_soon(self._execute, name=f"executor of {self.queue.name}")

    async def _execute(self) -> None:
        """Take jobs and run them, one after another."""
        queue = self.queue
        task = trio.lowlevel.current_task()
        clean = copy_context()
        in_a_row = 0
        try:
            while queue.executors <= queue.concurrency:
                if not queue.inbox:
                    await queue.idle.park()
                    in_a_row = 0
                    continue
                await self.perform(queue.take(), queue)
                in_a_row += 1
                if copy_context() != clean:
                    # The attempt set context variables. They cannot be unset without its tokens, so the task goes on
                    # in a fresh copy of the context it began with; Trio uses it from the next step on.
                    task.context = clean.copy()
                    in_a_row = _CHECKPOINT_EVERY
                if in_a_row >= _CHECKPOINT_EVERY:
                    in_a_row = 0
                    await trio.lowlevel.checkpoint()
        finally:
            queue.executors -= 1
