"""Actor that keeps the worker alive in the eyes of the others, and knows when it no longer is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from jobrt._runtime.channels import Wakeup
from jobrt._runtime.messages import Fence
from jobrt.errors import StorageUnavailable
from jobrt.events import EventBus, WorkerFenced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobrt._core.worker_info import WorkerInfo
    from jobrt._runtime.identity import Identity
    from jobrt._runtime.messages import ExecutorsOrder
    from jobrt._runtime.outage import Outage
    from jobrt._storage.contract import Changes, WorkerStore


_BEATS_PER_LEASE = 3
_BREATH = 0.5
"""Seconds between two beats, at least, however much there is to tell."""


@attrs.define(eq=False, kw_only=True)
class Heartbeat:
    """Renew the worker's lease three times per lease time; the last actor to stop.

    The lease is trusted from *before* the last renewal that was answered, by the monotonic clock. When it has run
    out, or the storage says that the worker is gone, the worker's jobs may already run elsewhere: a `Fence` has them
    cancelled here, and the worker registers anew. Nothing is claimed in between.
    """

    workers: WorkerStore
    identity: Identity
    lease: float
    info: Callable[[], WorkerInfo]
    executors: Sequence[trio.MemorySendChannel[ExecutorsOrder]]
    fetchers: Sequence[Wakeup]
    news: trio.MemorySendChannel[Changes]
    """Where what a beat brings goes: to `Control`, which looks by itself when this is full."""
    outage: Outage
    emit: EventBus
    beat_now: Wakeup
    """Rung when people should learn at once what `info` returns."""
    renewed: float = 0.0
    _registered: Wakeup = attrs.Factory(Wakeup)

    async def register(self) -> None:
        """Make the worker known; raises `StorageUnavailable` if that is not possible now."""
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
                    await self._start_over()
                if self.outage.since is not None:
                    await trio.sleep(interval / 5)
                    continue
                await trio.sleep(min(_BREATH, interval))
                with trio.move_on_after(interval - _BREATH):
                    await self.beat_now.wait()

    async def _guard(self) -> None:
        """Fence when the lease runs out, whatever a beat waits for: to give up a silent connection takes seconds."""
        while True:
            await trio.sleep_until(self.renewed + self.lease)
            if trio.current_time() >= self.renewed + self.lease:
                self._fence()
            if not self.identity.trusted:
                await self._registered.wait()

    async def _beat(self, limit: float) -> bool:
        """Renew once, within `limit` seconds; say whether the storage knows us (or could not be asked)."""
        began = trio.current_time()
        changes = None
        try:
            with trio.move_on_after(limit):
                changes = await self.workers.beat(self.identity.id, lease=self.lease, info=self.info())
        except StorageUnavailable as error:
            self.outage.begin(error)
            return True
        if changes is None:
            self.outage.begin(StorageUnavailable(f"no answer to a heartbeat within {limit:g} s"))
            return True
        self.outage.over()
        if changes.known:
            # A beat that was answered proves the lease from when it was asked for, if that was still in time.
            self.renewed = began if began <= self.renewed + self.lease else self.renewed
            self._pass_on(changes)
        return changes.known

    def _pass_on(self, changes: Changes) -> None:
        try:
            self.news.send_nowait(changes)
        except trio.WouldBlock:
            return

    async def _start_over(self) -> None:
        """Cancel our own jobs and register under a new id, however long that takes."""
        self._fence()
        while True:
            try:
                await self.register()
            except StorageUnavailable as error:
                self.outage.begin(error)
                await trio.sleep(self.lease / 10)
            else:
                self.outage.over()
                for fetcher in self.fetchers:  # while the worker was nobody it claimed nothing
                    fetcher.ring()
                return

    def _fence(self) -> None:
        """Cancel our own jobs, once."""
        if not self.identity.trusted:
            return
        self.identity.trusted = False
        late = trio.current_time() - self.renewed
        fence = Fence(self.identity.id, f"no heartbeat for {late:.1f} s, the lease is {self.lease:g} s")
        for executors in self.executors:
            try:
                executors.send_nowait(fence)
            except trio.WouldBlock:  # they are down, so nothing runs
                continue
        self.emit(WorkerFenced(self.identity.id, late))
