"""Actor that learns what operators want and tells the queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from jobrt._runtime.messages import Cancels, Resize, Settings
from jobrt.errors import StorageUnavailable
from jobrt.events import EventBus, QueuePaused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobrt._runtime.channels import Wakeup
    from jobrt._runtime.identity import Identity
    from jobrt._runtime.messages import ExecutorsOrder, FetcherOrder
    from jobrt._runtime.outage import Backoff
    from jobrt._storage.contract import CancelRequest, Changes, WorkerStore


@attrs.define(eq=False)
class QueueControl:
    """What a queue was told last, and the channels to tell it; ``concurrency`` is the configured one.

    The orders are whole states, so none is sent to an actor that has not taken the last one: it is sent at the next
    look. The channels then always have room for the worker's own orders.
    """

    name: str
    concurrency: int
    fetcher: trio.MemorySendChannel[FetcherOrder]
    executors: trio.MemorySendChannel[ExecutorsOrder]
    paused: bool = False
    cancels: tuple[CancelRequest, ...] = ()
    sent: Settings | None = None

    def tell(self, cancels: tuple[CancelRequest, ...], settings: Settings) -> None:
        """Send what is new."""
        if self.fetcher.statistics().current_buffer_used or self.executors.statistics().current_buffer_used:
            return
        if cancels or self.cancels:  # a job may have arrived since they were sent
            self.executors.send_nowait(Cancels(cancels))
            self.cancels = cancels
        if settings != self.sent:
            self.executors.send_nowait(Resize(settings.concurrency))
            self.fetcher.send_nowait(settings)
            self.sent = settings


@attrs.define(eq=False, kw_only=True)
class Control:
    """Learn what operators want: cancelled jobs, paused and scaled queues. At once when woken, else by looking.

    Looks at every `interval` while jobs run (only they can be cancelled); each heartbeat brings the same news.
    """

    workers: WorkerStore
    identity: Identity
    interval: float
    busy: Callable[[], bool]
    queues: Mapping[str, QueueControl]
    wake: Wakeup
    news: trio.MemoryReceiveChannel[Changes]
    backoff: Backoff
    emit: EventBus

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive_news)
            task_status.started()
            self.wake.ring()
            while True:
                with trio.move_on_after(self.interval) as scope:
                    await self.wake.wait()
                if scope.cancelled_caught and not self.busy():
                    continue
                await self._look()

    async def _look(self) -> None:
        try:
            self._apply(await self.workers.changes(self.identity.id))
        except StorageUnavailable as error:
            self.wake.ring()
            await self.backoff.wait(error)
        else:
            self.backoff.reset()

    async def _receive_news(self) -> None:
        async for changes in self.news:
            self._apply(changes)

    def _apply(self, changes: Changes) -> None:
        """Tell each queue what operators asked for."""
        wanted = {settings.name: settings for settings in changes.queues}
        for name, queue in self.queues.items():
            found = wanted.get(name)
            concurrency = None if found is None else found.concurrency
            settings = Settings(
                paused=found is not None and found.paused,
                concurrency=queue.concurrency if concurrency is None else concurrency,
            )
            if settings.paused != queue.paused:
                queue.paused = settings.paused
                self.emit(QueuePaused(name, settings.paused))
            queue.tell(changes.cancels, settings)
