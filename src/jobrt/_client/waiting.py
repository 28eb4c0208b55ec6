"""Wait for jobs to end, all of a client's waiters together: one question to the database for all of them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import attrs
import trio

from jobrt._core.states import FINAL
from jobrt.errors import JobNotFound, StorageUnavailable

if TYPE_CHECKING:
    from jobrt._storage.contract import Storage, Wake

__all__ = ["Waiting"]

_FINAL = frozenset(state.value for state in FINAL)
_SHORTEST = 0.05
_LONGEST = 2.0
"""Seconds between two looks when no wake-up comes: doubling, since a job that took long takes longer."""


@attrs.define(eq=False)
class Waiting:
    """Know who waits for which job. The task that watches is started in the client's nursery by the first waiter."""

    storage: Storage
    nursery: trio.Nursery
    waiters: defaultdict[int, list[trio.Event]] = attrs.Factory(lambda: defaultdict(list))
    missing: set[int] = attrs.Factory(set)
    _wake: trio.Event = attrs.Factory(trio.Event)
    _watching: bool = False

    async def wait(self, job_id: int) -> None:
        """Return when the job is final.

        Raises:
            JobNotFound: there is no such job (any more).

        """
        event = trio.Event()
        self.waiters[job_id].append(event)
        if not self._watching:
            self._watching = True
            self.nursery.start_soon(self._watch)
        self._wake.set()
        try:
            await event.wait()
        finally:
            self._forget(job_id, event)
        if job_id in self.missing:
            msg = f"there is no job {job_id}: it was deleted, or pruned after it ended"
            raise JobNotFound(msg)

    def _forget(self, job_id: int, event: trio.Event) -> None:
        events = self.waiters[job_id]
        events.remove(event)
        if not events:
            del self.waiters[job_id]

    async def _watch(self) -> None:
        """Look for as long as anybody waits; who comes while the last look ends is seen by the next."""
        try:
            while self.waiters:
                await self._look_and_listen()
        finally:
            self._watching = False

    async def _look_and_listen(self) -> None:
        """Look when told, or when it has been a while, until nobody waits."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            pause = _SHORTEST
            while self.waiters:
                self._wake = trio.Event()
                pause = _SHORTEST if await self._look() else min(2 * pause, _LONGEST)
                if self.waiters:
                    with trio.move_on_after(pause):
                        await self._wake.wait()
            nursery.cancel_scope.cancel()

    async def _look(self) -> bool:
        """Ask for the state of every job waited for; say whether one of them has ended."""
        try:
            states = await self.storage.jobs.await_final(tuple(self.waiters))
        except StorageUnavailable:
            return False
        ended = False
        for job_id, state in states.items():
            if state is None:
                self.missing.add(job_id)
            if state is None or state in _FINAL:
                ended = True
                for event in self.waiters.get(job_id, ()):
                    event.set()
        if ended:
            await trio.lowlevel.checkpoint()  # the waiters leave before it is decided whether to go on
        return ended

    async def _listen(self) -> None:
        while True:
            try:
                await self.storage.wakes.listen(self._heard)
            except StorageUnavailable:
                await trio.sleep(_LONGEST)

    def _heard(self, wake: Wake) -> Any:
        if wake.kind == "finished":
            self._wake.set()
