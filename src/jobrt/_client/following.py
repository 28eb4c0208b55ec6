"""Jobs that tasks of a client follow: one listener wakes all of them."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Self

import attrs
import trio

from jobrt._client.waiting import closed, missing
from jobrt._core.stream import Seen, check_cursor_of, updates
from jobrt._core.updates import Update
from jobrt._storage.contract import Storage, Wake
from jobrt.errors import StorageUnavailable

_SHORTEST = 0.05
_LONGEST = 2.0
"""Seconds between two looks without a wake. They double; wakes may be lost."""


@attrs.define(eq=False)
class Following:
    """Followers of a client. The first one starts the listener in the client's nursery."""

    storage: Storage
    nursery: trio.Nursery
    _followers: weakref.WeakSet[Follower] = attrs.Factory(weakref.WeakSet)
    """An iterator that nobody has any more is not closed by anybody, so it is known here only as long as it exists."""
    _listening: bool = False
    closed: bool = False

    def follow(self, job_id: int, after: int) -> Follower:
        """Return an iterator over what happens to a job."""
        return Follower(self, job_id, Seen(after))

    def close(self) -> None:
        """Let the tasks that follow, and those that begin to, raise `StorageError`."""
        self.closed = True
        self.wake(None)

    def enter(self, follower: Follower) -> None:
        """Wake a follower from now on."""
        self._followers.add(follower)
        if not self._listening:
            self._listening = True
            self.nursery.start_soon(self._listen)

    def leave(self, follower: Follower) -> None:
        """Wake a follower no more."""
        self._followers.discard(follower)

    def wake(self, jobs: frozenset[int] | None) -> None:
        """Wake those who follow these jobs; None is for all."""
        for follower in tuple(self._followers):
            if jobs is None or follower.job_id in jobs:
                follower.wake()

    async def _listen(self) -> None:
        """Listen while anybody follows."""
        try:
            while self._followers:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen_again)
                    while self._followers:  # noqa: ASYNC110 - no event tells that an iterator is gone
                        await trio.sleep(_LONGEST)
                    nursery.cancel_scope.cancel()
        finally:
            self._listening = False

    async def _listen_again(self) -> None:
        while True:
            try:
                await self.storage.wakes.listen(self._on_wake, news=True, task_status=_Begun(self))
            except StorageUnavailable:
                await trio.sleep(_LONGEST)

    def _on_wake(self, wake: Wake) -> None:
        if wake.kind == "stream":
            self.wake(wake.jobs)


@attrs.frozen
class _Begun:
    """Task status of the listener: what happened before it began to listen has woken nobody."""

    following: Following

    def started(self, value: Any = None) -> None:  # noqa: ARG002 - the signature that it has
        self.following.wake(None)


@attrs.define(eq=False)
class Follower(AsyncIterator[Update]):
    """Iterator over what happens to a job, for one task. It ends with the job."""

    _home: Following
    job_id: int
    _seen: Seen
    _ready: deque[Update] = attrs.Factory(deque)
    _woken: trio.Event = attrs.Factory(trio.Event)
    _begun: bool = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Update:
        """Return the next update; wait for it, if necessary.

        Raises:
            JobNotFound: there is no such job, or no longer.
            InvalidFilter: the cursor is not one of this job.
            StorageError: the client is closed, or the database refused the query.

        """
        pause = _SHORTEST
        while not self._ready:
            if self._seen.over:
                self._home.leave(self)
                raise StopAsyncIteration
            if self._home.closed:
                raise closed()
            if not await self._look():
                with trio.move_on_after(pause) as wait:
                    await self._woken.wait()
                pause = min(2 * pause, _LONGEST) if wait.cancelled_caught else _SHORTEST
        await trio.lowlevel.checkpoint()
        return self._ready.popleft()

    def wake(self) -> None:
        """Let the task look again."""
        self._woken.set()

    async def _look(self) -> bool:
        """Look what is new; return whether there is anything, or nothing more to come."""
        first = not self._begun
        if first:
            self._home.enter(self)
        self._woken = trio.Event()
        try:
            page = await self._home.storage.streams.read(self.job_id, self._seen.cursor, wake=first)
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
