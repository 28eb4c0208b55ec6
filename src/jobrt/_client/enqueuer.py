"""Enqueues of a client: hooks around them, checks of queues, the insert, events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, Unpack

import attrs
import trio

from jobrt._client.announce import announce
from jobrt._client.handle import Handle
from jobrt._client.hooks import EnqueueHook, Handles, around_enqueue
from jobrt._client.unknown_queues import check_queues
from jobrt._core.job import NewJob
from jobrt._registry import (
    Enqueueable,
    EnqueueKeywords,
    JobWithOptions,
    Registry,
    listed,
    new_job,
    new_jobs,
    with_options,
)
from jobrt._storage.contract import Inserted, Storage
from jobrt.events import EventBus

_CHUNK: Final = 10_000
"""Jobs per transaction of `many`, which then lasts less than a second."""


@attrs.define(eq=False)
class Enqueuer:
    """What stores new jobs, for a client and for the jobs that use it.

    Args:
        handle: makes the handle of a stored job, from its id and whether it is a duplicate.
        storage: an open storage.
        registry: the jobs that may be enqueued.
        emit: event bus that receives `JobEnqueued`.
        queues: queues that the app was given; a job for another one is checked. None: it has all that its jobs name.
        hooks: the list of the app, to which hooks may be added later.

    """

    handle: Callable[[int, bool], Handle[Any]]
    storage: Storage
    registry: Registry
    emit: EventBus
    queues: frozenset[str] | None
    hooks: Sequence[EnqueueHook]

    async def one(
        self, job: Enqueueable[Any], conn: object, **options: Unpack[EnqueueKeywords]
    ) -> Handle[Any]:
        """Insert a job; see `Client.enqueue`."""
        if self.hooks:
            return (await self._hooked([with_options(job, **options)], conn))[0]
        new = [new_job(self.registry, job, **options)]
        (row,) = await self._insert(new, conn)
        return self.handle(row.id, row.duplicate)

    async def many(self, jobs: Iterable[Enqueueable[Any]], conn: object) -> list[Handle[Any]]:
        """Insert jobs; see `Client.enqueue_many`."""
        if self.hooks:
            return await self._hooked([with_options(job) for job in listed(jobs)], conn)
        return await self._insert_all(jobs, conn)

    async def from_job(
        self, parent: int, job: Enqueueable[Any], conn: object, **options: Unpack[EnqueueKeywords]
    ) -> Handle[Any]:
        """Insert a job for another one, which is recorded as its parent: `Context.enqueue`."""
        return (await self._hooked([with_options(job, **options)], conn, parent=parent))[0]

    async def children(
        self,
        jobs: Sequence[Enqueueable[Any]],
        rows: Sequence[NewJob],
        store: Callable[[Sequence[NewJob]], Awaitable[Handles]],
        *,
        priority: int,
        place: datetime,
    ) -> Handles:
        """Store children of a nursery, inside the hooks.

        `rows` are those of the jobs: `child_rows`. What a hook has put in place of a job gets another one.
        """

        async def insert_rows(new: Sequence[NewJob]) -> Handles:
            if self.queues is not None:
                await check_queues(self.queues, new, workers=self.storage.workers)
            handles = await store(new)
            if self.emit.subscribers:
                announce(self.emit, new, handles)
            return handles

        if not self.hooks:
            return await insert_rows(rows)
        wrapped = [with_options(job) for job in jobs]
        known = {id(job): row for job, row in zip(wrapped, rows, strict=True)}

        async def insert(given: Sequence[JobWithOptions[Any]]) -> Handles:
            return await insert_rows(
                [
                    known.get(id(job)) or self.child_rows([job], priority=priority, place=place)[0]
                    for job in given
                ]
            )

        return await around_enqueue(self.hooks, wrapped, insert)

    def child_rows(self, jobs: Iterable[Enqueueable[Any]], *, priority: int, place: datetime) -> list[NewJob]:
        """Return the rows of children, as they are before hooks; see `new_jobs`."""
        return new_jobs(self.registry, jobs, priority=priority, place=place)

    async def _hooked(
        self, jobs: Sequence[JobWithOptions[Any]], conn: object, parent: int | None = None
    ) -> list[Handle[Any]]:
        return await around_enqueue(self.hooks, jobs, partial(self._insert_all, conn=conn, parent=parent))

    async def _insert_all(
        self, jobs: Iterable[Enqueueable[Any]], conn: object, parent: int | None = None
    ) -> list[Handle[Any]]:
        new = new_jobs(self.registry, jobs)
        if parent is not None:
            new = [job._replace(parent=parent) for job in new]
        handles: list[Handle[Any]] = []
        for start in range(0, len(new), _CHUNK):
            inserted = await self._insert(new[start : start + _CHUNK], conn)
            handles += [self.handle(row.id, row.duplicate) for row in inserted]
        if not new:
            await trio.lowlevel.checkpoint()
        return handles

    async def _insert(self, new: Sequence[NewJob], conn: object) -> Sequence[Inserted]:
        if self.queues is not None:
            await check_queues(self.queues, new, workers=self.storage.workers)
        inserted = await self.storage.jobs.insert(new, conn=conn)
        if self.emit.subscribers and conn is None:
            announce(self.emit, new, inserted)
        return inserted
