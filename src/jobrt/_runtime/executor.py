"""Run claimed jobs, so many at once."""

from __future__ import annotations

from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from jobrt._runtime.working_directory import Home

if TYPE_CHECKING:
    from jobrt._core.job import Claimed
    from jobrt._runtime.queue_state import QueueState
    from jobrt._runtime.running import Running

__all__ = ["Executors"]

_CHECKPOINT_EVERY = 32
"""Attempts that may run in a row without letting others run: a quick job need not contain a checkpoint."""


class Attempts(Protocol):
    """What an executor needs of the attempts it runs."""

    def begin(self, job: Claimed, queue: QueueState, *, scope: trio.CancelScope, now: float) -> Running: ...
    async def run(self, running: Running) -> None: ...
    def stopped(self, running: Running, problem: BaseException | None) -> None: ...
    def cut(self, running: Running) -> None: ...


@attrs.define(eq=False)
class Executors:
    """Keep up to ``concurrency`` long-lived tasks that take jobs from the queue's inbox.

    Tasks are started when there is more work than idle tasks, and end when the queue is scaled down.
    """

    queue: QueueState
    attempts: Attempts
    home: Home = attrs.Factory(Home)

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
        """Run jobs as they come."""
        queue, clean = self.queue, copy_context()
        try:
            while queue.executors <= queue.concurrency:
                if queue.inbox:
                    await self._burst(clean)
                else:
                    await queue.idle.park()
        finally:
            queue.executors -= 1

    async def _burst(self, clean: Context) -> None:
        """Run one job after another in a cancel scope, until there is none or one of them was cancelled.

        A scope costs 6 µs, a quarter of what an attempt may cost, and one that was not cancelled is as good as new.
        """
        running: Running | None = None
        problem: BaseException | None = None
        try:
            with trio.CancelScope() as scope:
                in_a_row, now, cancelled = 0, trio.current_time(), False
                while self.queue.inbox and not cancelled:
                    running = self.attempts.begin(self.queue.take(), self.queue, scope=scope, now=now)
                    await self.attempts.run(running)
                    self.home.go_back()
                    now, cancelled, running = running.over or now, running.cancelled, None
                    in_a_row += 1
                    if copy_context() != clean or in_a_row >= _CHECKPOINT_EVERY:
                        in_a_row = 0
                        await _fresh(clean)
                        now = trio.current_time()
        except BaseException as error:
            if running is None:
                raise
            if _from_above(error):
                self.attempts.cut(running)
                raise
            problem = error
        if running is not None:
            self.home.go_back()
            self.attempts.stopped(running, problem)
            await _fresh(clean)


async def _fresh(clean: Context) -> None:
    """Let others run, and go on with the context variables as they were.

    What an attempt has set cannot be unset without its tokens, so the task goes on in a fresh copy of the context it
    began with; Trio uses that from the next step on.
    """
    trio.lowlevel.current_task().context = clean.copy()
    await trio.lowlevel.checkpoint()


def _from_above(error: BaseException) -> bool:
    """Say whether somebody above is being cancelled, or the program ends: that is not ours to swallow."""
    if isinstance(error, BaseExceptionGroup):
        return any(_from_above(one) for one in error.exceptions)
    return isinstance(error, (trio.Cancelled, KeyboardInterrupt, GeneratorExit))
