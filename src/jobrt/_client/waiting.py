"""Tasks of a client that wait for jobs: a single query covers all of them."""

from collections import defaultdict
from typing import Any

import attrs
import trio

from jobrt._core.states import FINAL
from jobrt._storage.contract import Storage, Wake
from jobrt._storage.trio_only import refuse_asyncio
from jobrt.errors import JobNotFound, StorageError, StorageUnavailable

_FINAL = frozenset(state.value for state in FINAL)
_SHORTEST = 0.05
_LONGEST = 2.0
"""Seconds between two queries without a wake-up. They double, as a job that took long often takes longer."""


def closed() -> StorageError:
    """Return the error for a call of a client that is closed."""
    return StorageError(
        "the client is closed: use it, and handles that it returned, inside of its `async with` block"
    )


def missing(job_id: int) -> JobNotFound:
    """Return the error for a wait for a job that does not exist."""
    return JobNotFound(f"there is no job {job_id}: it was deleted, or pruned after it ended")


@attrs.define(eq=False)
class Waiting:
    """Jobs that tasks of a client wait for. The first task starts the query loop in the client's nursery."""

    storage: Storage
    nursery: trio.Nursery
    waiters: defaultdict[int, list[trio.Event]] = attrs.Factory(lambda: defaultdict(list))
    missing: set[int] = attrs.Factory(set)
    _wake: trio.Event = attrs.Factory(trio.Event)
    _watching: bool = False
    _closed: bool = False

    async def wait(self, job_id: int) -> None:
        """Return when the job is final.

        Raises:
            JobNotFound: there is no such job, or no longer.
            StorageError: the client is closed, or was closed meanwhile.

        """
        if self._closed:
            raise closed()
        refuse_asyncio()
        event = trio.Event()
        self.waiters[job_id].append(event)
        if not self._watching:
            self._watching = True
            self.nursery.start_soon(self._watch)
        self._wake.set()
        try:
            await event.wait()
        finally:
            self._remove(job_id, event)
        if job_id in self.missing:
            raise missing(job_id)
        if self._closed:
            raise closed()

    def close(self) -> None:
        """Let the tasks that wait, and those that come, raise `StorageError`."""
        self._closed = True
        for events in self.waiters.values():
            for event in events:
                event.set()

    def _remove(self, job_id: int, event: trio.Event) -> None:
        events = self.waiters[job_id]
        events.remove(event)
        if not events:
            del self.waiters[job_id]

    async def _watch(self) -> None:
        """Query while any task waits. One may begin to wait while the last query ends: then there is another round."""
        try:
            while self.waiters:
                await self._query_and_listen()
        finally:
            self._watching = False

    async def _query_and_listen(self) -> None:
        """Query at each wake-up, and sometimes without one, until no task waits."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            pause = _SHORTEST
            while self.waiters:
                self._wake = trio.Event()
                pause = _SHORTEST if await self._query() else min(2 * pause, _LONGEST)
                if self.waiters:
                    with trio.move_on_after(pause):
                        await self._wake.wait()
            nursery.cancel_scope.cancel()

    async def _query(self) -> bool:
        """Query the states of the jobs, and wake the tasks of the final ones; return whether there are any."""
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
            await trio.lowlevel.checkpoint()  # lets the tasks leave before the loop checks whether any waits
        return ended

    async def _listen(self) -> None:
        while True:
            try:
                await self.storage.wakes.listen(self._on_wake)
            except StorageUnavailable:
                await trio.sleep(_LONGEST)

    def _on_wake(self, wake: Wake) -> Any:
        if wake.kind == "finished":
            self._wake.set()
