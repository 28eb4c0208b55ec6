"""Tasks of an asyncio program that wait for jobs: a single query covers all of them."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, TypeAlias

import attrs

from jobrt._client.waiting import closed, missing
from jobrt._core.states import FINAL
from jobrt._storage.open import AsyncioJobs
from jobrt.errors import StorageError, StorageUnavailable

_FINAL: Final = frozenset(state.value for state in FINAL)
_SHORTEST: Final = 0.02
"""Seconds between the first two queries. The pauses double up to the `longest_pause` of the storage."""
_RELISTEN: Final = 2.0
"""Seconds after a lost connection until another is opened."""

_Futures: TypeAlias = "set[asyncio.Future[None]]"


@attrs.define(eq=False)
class AsyncioWaiting:
    """Jobs that tasks wait for. While there are any, a task of the client queries their states."""

    jobs: AsyncioJobs
    _waiters: dict[int, _Futures] = attrs.Factory(dict)
    _wake: asyncio.Event = attrs.Factory(asyncio.Event)
    _watcher: asyncio.Task[None] | None = None
    _closed: bool = False

    async def wait(self, job_id: int) -> None:
        """Return when the job is final.

        Raises:
            JobNotFound: there is no such job, or no longer.
            StorageError: the client is closed, or was closed meanwhile; or the database refused the query.

        """
        if self._closed:
            raise closed()
        future = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(job_id, set()).add(future)
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(), name="jobrt: waiting for jobs")
        self._wake.set()
        try:
            await future
        finally:
            self._remove(job_id, future)

    def close(self) -> None:
        """Let the tasks that wait, and those that come, raise `StorageError`."""
        self._closed = True
        self._fail(closed)
        if self._watcher is not None:
            self._watcher.cancel()

    async def ended(self) -> None:
        """Wait, after `close`, until no task of this runs any more."""
        if self._watcher is not None:
            await asyncio.wait([self._watcher])

    def _remove(self, job_id: int, future: asyncio.Future[None]) -> None:
        futures = self._waiters.get(job_id, set())
        futures.discard(future)
        if not futures:
            self._waiters.pop(job_id, None)

    def _fail(self, error: Callable[[], Exception]) -> None:
        """Let all tasks that wait raise an error, each its own."""
        for job_id in tuple(self._waiters):
            self._end(job_id, error)

    def _end(self, job_id: int, error: Callable[[], Exception] | None = None) -> None:
        for future in self._waiters.pop(job_id, ()):
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error())

    # ------------------------------------------------------------------ the task

    async def _watch(self) -> None:
        """Query at each wake, and sometimes without one, while any task waits."""
        listener = asyncio.create_task(self._listen(), name="jobrt: listening")
        pause = _SHORTEST
        try:
            while self._waiters:
                self._wake.clear()
                pause = _SHORTEST if await self._query() else min(2 * pause, self.jobs.longest_pause)
                if self._waiters:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), pause)
        except StorageError as error:
            self._fail(partial(type(error), str(error)))
        finally:
            self._watcher = None
            listener.cancel()
            await asyncio.wait([listener])

    async def _query(self) -> bool:
        """Query the states of the jobs, and end the waits for those that are final; return whether there are any."""
        try:
            states = await self.jobs.await_final(tuple(self._waiters))
        except StorageUnavailable:
            return False
        ended = [job_id for job_id, state in states.items() if state is None or state in _FINAL]
        for job_id in ended:
            self._end(job_id, partial(missing, job_id) if states[job_id] is None else None)
        return bool(ended)

    async def _listen(self) -> None:
        """Listen for wakes. Where that is not possible, the pauses between two queries have to do."""
        while True:
            try:
                await self.jobs.listen(self._wake.set)
            except StorageUnavailable:
                await asyncio.sleep(_RELISTEN)
            except StorageError as error:
                self._fail(partial(type(error), str(error)))
                return
            else:
                return
