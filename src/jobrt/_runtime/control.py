"""Actor that reads the requests of operators and sends them to the queues."""

from collections.abc import Callable, Mapping

import attrs
import trio

from jobrt._core.pulse import next_pulse
from jobrt._runtime.channels import Wakeup
from jobrt._runtime.identity import Identity
from jobrt._runtime.messages import Cancels, ExecutorsOrder, FetcherOrder, Resize, Settings
from jobrt._runtime.outage import Backoff
from jobrt._storage.contract import Changes, WorkerStore
from jobrt.errors import StorageUnavailable
from jobrt.events import EventBus, QueuePaused

_NONE = Cancels(())


@attrs.define(eq=False)
class QueueControl:
    """Order channels of one queue, and the orders sent last; ``concurrency`` is the configured one.

    Each order contains the whole state. So while an actor has not received the last one, no other is sent, and the
    next poll sends the newest. The channels therefore always have room for the worker's own orders.
    """

    name: str
    concurrency: int
    fetcher: trio.MemorySendChannel[FetcherOrder]
    executors: trio.MemorySendChannel[ExecutorsOrder]
    paused: bool = False
    cancels: Cancels = _NONE
    sent: Settings | None = None

    def send(self, cancels: Cancels, settings: Settings) -> None:
        """Send the orders that have changed."""
        if self.fetcher.statistics().current_buffer_used or self.executors.statistics().current_buffer_used:
            return
        if cancels != _NONE or self.cancels != _NONE:  # again even if unchanged: a job may have arrived since
            self.executors.send_nowait(cancels)
            self.cancels = cancels
        if settings != self.sent:
            self.executors.send_nowait(Resize(settings.concurrency))
            self.fetcher.send_nowait(settings)
            self.sent = settings


@attrs.define(eq=False, kw_only=True)
class Control:
    """Actor that reads cancel requests and the settings of queues: when woken, else by polling.

    It polls at every `interval` only while the worker holds jobs, since only they can be cancelled. Each heartbeat
    returns the same changes.
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
        """Read changes until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive_news)
            task_status.started()
            self.wake.ring()
            while True:
                with trio.move_on_at(next_pulse(trio.current_time(), self.interval)) as scope:
                    await self.wake.wait()
                if scope.cancelled_caught and not self.busy():
                    continue
                await self._poll()

    async def _poll(self) -> None:
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
        """Send each queue its cancel requests and settings."""
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
            queue.send(Cancels(changes.cancels, changes.nurseries), settings)
