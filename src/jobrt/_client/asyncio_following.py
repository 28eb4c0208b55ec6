"""Jobs that tasks of an asyncio program follow: one listener wakes all of them."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final, Self

import attrs

from jobrt._client.waiting import closed, missing
from jobrt._core.stream import Seen, check_cursor_of, updates
from jobrt._core.updates import Update
from jobrt._storage.contract import Wake
from jobrt._storage.open import AsyncioJobs
from jobrt.errors import StorageUnavailable

_SHORTEST: Final = 0.05
_LONGEST: Final = 2.0
"""Seconds between two looks without a wake. They double; wakes may be lost."""


@attrs.define(eq=False)
class AsyncioFollowing:
    """Followers of a client. While there are any, a task of the client listens."""

    jobs: AsyncioJobs
    _followers: weakref.WeakSet[AsyncioFollower] = attrs.Factory(weakref.WeakSet)
    """As in `jobrt._client.following`: nobody closes an iterator, so it is known here only as long as it exists."""
    _listener: asyncio.Task[None] | None = None
    closed: bool = False

    def follow(self, job_id: int, after: int) -> AsyncioFollower:
        """Return an iterator over what happens to a job."""
        return AsyncioFollower(self, job_id, Seen(after))

    def close(self) -> None:
        """Let the tasks that follow, and those that begin to, raise `StorageError`."""
        self.closed = True
        self.wake(None)
        if self._listener is not None:
            self._listener.cancel()

    async def ended(self) -> None:
        """Wait, after `close`, until no task of this runs any more."""
        if self._listener is not None:
            await asyncio.wait([self._listener])

    def enter(self, follower: AsyncioFollower) -> None:
        """Wake a follower from now on."""
        self._followers.add(follower)
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(), name="jobrt: listening for followers")

    def leave(self, follower: AsyncioFollower) -> None:
        """Wake a follower no more."""
        self._followers.discard(follower)

    def wake(self, jobs: frozenset[int] | None) -> None:
        """Wake those who follow these jobs; None is for all."""
        for follower in tuple(self._followers):
            if jobs is None or follower.job_id in jobs:
                follower.woken.set()

    async def _listen(self) -> None:
        """Listen while anybody follows."""
        listening: asyncio.Task[None] | None = None
        try:
            while self._followers:
                if listening is None or listening.done():
                    listening = asyncio.create_task(self._listen_once(), name="jobrt: listening")
                await asyncio.sleep(_LONGEST)
        finally:
            self._listener = None
            if listening is not None:
                listening.cancel()
                await asyncio.wait([listening])

    async def _listen_once(self) -> None:
        with suppress(StorageUnavailable):  # it is tried again; until then followers look from time to time
            await self.jobs.listen(lambda: self.wake(None), self._on_wake)
            await asyncio.Event().wait()  # there is nothing to listen to

    def _on_wake(self, wake: Wake) -> None:
        self.wake(wake.jobs)


@attrs.define(eq=False)
class AsyncioFollower(AsyncIterator[Update]):
    """Iterator over what happens to a job, for one task. It ends with the job."""

    _home: AsyncioFollowing
    job_id: int
    _seen: Seen
    woken: asyncio.Event = attrs.Factory(asyncio.Event)
    _ready: deque[Update] = attrs.Factory(deque)
    _begun: bool = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Update:
        """Return the next update; wait for it, if necessary. It raises what the iterator for Trio raises."""
        pause = _SHORTEST
        while not self._ready:
            if self._seen.over:
                self._home.leave(self)
                raise StopAsyncIteration
            if self._home.closed:
                raise closed()
            if not await self._look():
                try:
                    await asyncio.wait_for(self.woken.wait(), pause)
                    pause = _SHORTEST
                except TimeoutError:
                    pause = min(2 * pause, self._home.jobs.longest_pause)
        return self._ready.popleft()

    async def _look(self) -> bool:
        """Look what is new; return whether there is anything, or nothing more to come."""
        first = not self._begun
        if first:
            self._home.enter(self)
        self.woken.clear()
        try:
            page = await self._home.jobs.read_stream(self.job_id, self._seen.cursor, wake=first)
        except StorageUnavailable:
            return False
        if page is None:
            self._home.leave(self)
            raise missing(self.job_id)
        if first:
            check_cursor_of(self.job_id, self._seen.cursor, page.last)
            self._begun = True
        self._seen, found = updates(self._seen, page)
        self._ready += found
        return bool(found) or self._seen.over
