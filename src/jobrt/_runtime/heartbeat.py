"""Keep the worker alive in the eyes of the others, and know when it no longer is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio

from jobrt._runtime.flag import Flag
from jobrt.errors import StorageUnavailable
from jobrt.events import EventBus, WorkerFenced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobrt._runtime.outage import Backoff, Outage
    from jobrt._storage.contract import Changes, Storage

__all__ = ["Control", "Heartbeat", "Identity"]

_BEATS_PER_LEASE = 3
_BREATH = 0.5
"""Seconds between two beats, at least, however much there is to tell."""


@attrs.define(eq=False)
class Identity:
    """Who this worker is: an id of its own for each registration, never used twice."""

    make: Callable[[], str]
    id: str = ""
    trusted: bool = False
    """Whether the storage knows the id and its lease has not run out."""

    def renew(self) -> str:
        """Become somebody new: after a lost lease the old id's jobs belong to whoever rescues them."""
        self.id, self.trusted = self.make(), False
        return self.id

    @property
    def claimant(self) -> str | None:
        """Return the id to claim jobs under; None while others would take them for a dead worker's."""
        return self.id if self.trusted else None


@attrs.define(eq=False)
class Heartbeat:
    """Renew the worker's lease three times per lease time; the last actor to stop.

    The lease is trusted from *before* the last renewal that was answered, by the monotonic clock. When it has run
    out, or the storage says that the worker is gone, the worker's jobs may already run elsewhere: `fence` cancels
    them here, and the worker registers anew. Nothing is claimed in between.
    """

    storage: Storage
    identity: Identity
    lease: float
    info: Callable[[], Mapping[str, Any]]
    fence: Callable[[str], None]
    resume: Callable[[], None]
    apply: Callable[[Changes], None]
    outage: Outage
    emit: EventBus
    renewed: float = 0.0
    news: Flag = attrs.Factory(Flag)
    """Set when people should learn at once what `info` tells."""
    _registered: Flag = attrs.Factory(Flag)

    async def register(self) -> None:
        """Make the worker known; raises `StorageUnavailable` if that is not possible now."""
        began = trio.current_time()
        await self.storage.register(self.identity.renew(), lease=self.lease, info=self.info())
        self.renewed, self.identity.trusted = began, True
        self._registered.set()

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
                    await self.news.wait()

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
                changes = await self.storage.beat(self.identity.id, lease=self.lease, info=self.info())
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
            self.apply(changes)
        return changes.known

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
                self.resume()
                return

    def _fence(self) -> None:
        """Cancel our own jobs, once."""
        if not self.identity.trusted:
            return
        self.identity.trusted = False
        late = trio.current_time() - self.renewed
        self.fence(f"no heartbeat for {late:.1f} s, the lease is {self.lease:g} s")
        self.emit(WorkerFenced(self.identity.id, late))


@attrs.define(eq=False)
class Control:
    """Learn what operators want: cancelled jobs, paused and scaled queues. At once when told, else by looking.

    Looks at every `interval` while jobs run (only they can be cancelled), and with each heartbeat anyway.
    """

    storage: Storage
    identity: Identity
    interval: float
    busy: Callable[[], bool]
    apply: Callable[[Changes], None]
    backoff: Backoff
    wake: Flag = attrs.Factory(Flag)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        task_status.started()
        while True:
            with trio.move_on_after(self.interval) as scope:
                await self.wake.wait()
            if scope.cancelled_caught and not self.busy():
                continue
            try:
                self.apply(await self.storage.changes(self.identity.id))
            except StorageUnavailable as error:
                self.wake.set()
                await self.backoff.wait(error)
            else:
                self.backoff.reset()
