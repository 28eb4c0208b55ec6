"""Actor that renews the worker's lease, and notices when it is lost."""

from collections.abc import Callable, Sequence
from contextlib import suppress

import attrs
import trio

from jobrt._core.worker_info import WorkerInfo
from jobrt._runtime.channels import Wakeup
from jobrt._runtime.identity import Identity
from jobrt._runtime.messages import ExecutorsOrder, Fence
from jobrt._runtime.outage import Outage
from jobrt._storage.contract import Changes, DatabaseReplaced, WorkerStore
from jobrt.errors import StorageUnavailable
from jobrt.events import EventBus, WorkerFenced

_BEATS_PER_LEASE = 3
_SHORTEST_INTERVAL = 0.5
"""Minimum seconds between two beats, even if `beat_now` rings often."""


@attrs.define(eq=False, kw_only=True)
class Heartbeat:
    """Actor that renews the worker's lease three times per lease time; the last actor to stop.

    By the monotonic clock, the lease starts *before* the request of the last renewal that was answered. When it has
    expired, or the storage no longer knows the worker, the jobs may already run elsewhere. Then a `Fence` cancels
    them here, and the worker registers under a new id. Nothing is claimed in between.
    """

    workers: WorkerStore
    identity: Identity
    lease: float
    info: Callable[[], WorkerInfo]
    executors: Sequence[trio.MemorySendChannel[ExecutorsOrder]]
    fetchers: Sequence[Wakeup]
    news: trio.MemorySendChannel[Changes]
    """Channel to `Control` for the changes that a beat returns; they are dropped when it is full."""
    outage: Outage
    emit: EventBus
    beat_now: Wakeup
    """Rung when operators should see a change of `info` immediately."""
    renewed: float = 0.0
    _registered: Wakeup = attrs.Factory(Wakeup)

    async def register(self) -> None:
        """Register the worker under a new id.

        Raises:
            StorageUnavailable: the database is unavailable.

        """
        began = trio.current_time()
        await self.workers.register(self.identity.renew(), lease=self.lease, info=self.info())
        self.renewed, self.identity.trusted = began, True
        self._registered.ring()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Beat until cancelled."""
        interval = self.lease / _BEATS_PER_LEASE
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._guard)
            task_status.started()
            while True:
                known = await self._beat(interval)
                if not known or not self.identity.trusted or trio.current_time() > self.renewed + self.lease:
                    await self._start_over("" if known else "the database does not know this worker any more")
                if self.outage.since is not None:
                    with trio.move_on_after(interval / 5):
                        await self.outage.replaced.wait()
                    continue
                shortest = min(_SHORTEST_INTERVAL, interval)
                await trio.sleep(shortest)
                with trio.move_on_after(interval - shortest):
                    await self.beat_now.wait()

    async def _guard(self) -> None:
        """Fence the jobs when the lease expires, even while a beat waits on a connection that does not respond."""
        while True:
            await trio.sleep_until(self.renewed + self.lease)
            if trio.current_time() >= self.renewed + self.lease:
                self._fence()
            if not self.identity.trusted:
                await self._registered.wait()

    async def _beat(self, limit: float) -> bool:
        """Renew the lease once, within `limit` seconds; return False if the storage does not know the worker."""
        began = trio.current_time()
        changes = None
        try:
            with trio.move_on_after(limit):
                changes = await self.workers.beat(self.identity.id, lease=self.lease, info=self.info())
        except DatabaseReplaced as error:
            self.outage.begin(error)
            return False
        except StorageUnavailable as error:
            self.outage.begin(error)
            return True
        if changes is None:
            self.outage.begin(StorageUnavailable(f"no reply to a heartbeat within {limit:g} s"))
            return True
        self.outage.over()
        if changes.known:
            # A reply proves the lease from the time of the request on, if the lease had not expired by then.
            self.renewed = began if began <= self.renewed + self.lease else self.renewed
            with suppress(trio.WouldBlock):
                self.news.send_nowait(changes)
        return changes.known

    async def _start_over(self, reason: str) -> None:
        """Cancel the worker's jobs and register under a new id, however long that takes."""
        self._fence(reason)
        while True:
            try:
                await self.register()
            except StorageUnavailable as error:
                self.outage.begin(error)
                await trio.sleep(self.lease / 10)
            else:
                self.outage.over()
                for fetcher in self.fetchers:  # without a trusted id they have claimed nothing
                    fetcher.ring()
                return

    def _fence(self, reason: str = "") -> None:
        """Cancel the worker's jobs, once per lost lease."""
        if not self.identity.trusted:
            return
        self.identity.trusted = False
        late = trio.current_time() - self.renewed
        reason = reason or f"no heartbeat for {late:.1f} s, the lease is {self.lease:g} s"
        fence = Fence(self.identity.id, reason)
        for executors in self.executors:
            with suppress(trio.WouldBlock):  # the channel is full because they are down, so nothing runs
                executors.send_nowait(fence)
        self.emit(WorkerFenced(self.identity.id, late))
