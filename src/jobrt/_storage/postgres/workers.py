"""Workers in PostgreSQL: heartbeats, leadership, and the rescue of jobs whose worker died."""

import json
import math
from collections.abc import Sequence
from datetime import UTC
from functools import partial
from typing import Final

import attrs
import trio

from jobrt._core import stored
from jobrt._core.job import JobRef
from jobrt._core.states import State
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.apart import Aside
from jobrt._storage.beats import Beats, info_with
from jobrt._storage.contract import CancelRequest, Changes, NurseryEnding, QueueSettings, Rescued, WorkerRow
from jobrt._storage.postgres.database import Database, retried
from jobrt._storage.postgres.encode import numbers
from jobrt._storage.postgres.session import Session
from jobrt._storage.postgres.waker import Waker

_CRASHED: Final = "the worker died, or was cut off from the database for longer than its lease"

_READ_PART: Final = 0.1
"""Part of the lease that a heartbeat may wait for its updates."""


@attrs.define(eq=False)
class PostgresWorkers:
    """Implementation of `WorkerStore`."""

    _database: Database
    _waker: Waker
    _beats: Beats
    _aside: Aside
    _last: dict[str, Changes] = attrs.field(init=False, factory=dict[str, Changes])
    """Updates of each worker's last heartbeat."""

    async def register(self, worker: str, *, lease: float, info: WorkerInfo) -> None:
        await self._database.fetch_for_lease(
            "workers/register", worker=worker, lease=str(lease), info=json.dumps(info_with(info, 0))
        )
        self._beats.registered(worker)

    async def beat(self, worker: str, *, lease: float, info: WorkerInfo) -> Changes:
        beat = self._beats.next(worker)
        values = {"worker": worker, "lease": str(lease), "info": json.dumps(info_with(info, beat.number))}
        if not await self._database.fetch_for_lease("workers/beat", since=str(beat.since), **values):
            return Changes(known=False, cancels=(), queues=())
        self._beats.answered(worker, beat)
        # A migration may hold the jobs. The lease is renewed already, so the worker need not wait for it.
        with trio.move_on_after(lease * _READ_PART if worker in self._last else math.inf):
            self._last[worker] = await retried(partial(self._changes, worker, for_lease=True))
        return self._last[worker]

    async def changes(self, worker: str) -> Changes:
        return await retried(partial(self._changes, worker))

    async def _changes(self, worker: str, *, for_lease: bool = False) -> Changes:
        async with self._database.session(for_lease=for_lease) as session:
            return await _changes(session, worker)

    async def unregister(self, worker: str) -> None:
        await self._database.fetch_for_lease("workers/unregister", worker=worker)
        self._beats.forget(worker)
        self._last.pop(worker, None)

    async def all(self) -> tuple[WorkerRow, ...]:
        return tuple(
            WorkerRow(
                id=id,
                started_at=started_at.replace(tzinfo=UTC),
                beat_at=beat_at.replace(tzinfo=UTC),
                expires_at=expires_at.replace(tzinfo=UTC),
                alive=alive,
                info=WorkerInfo.from_json(info),
            )
            for id, started_at, beat_at, expires_at, alive, info in await self._database.fetch("workers/all")
        )

    async def rescue(self, *, limit: int = 1000) -> tuple[Rescued, ...]:
        rescued: list[Rescued] = []
        while len(rescued) < limit:
            room = limit - len(rescued)
            but = self._aside.but("rescue")
            rows = await self._database.fetch("workers/rescue_find", but=numbers(but), limit=str(room))
            ids = [job_id for (job_id,) in rows]
            for ended in await self._aside.apart("rescue", ids, self._end):
                rescued += ended
            if len(ids) < room or not (
                set(ids) & {job.id for job in rescued} or self._aside.but("rescue") != but
            ):
                break
        queues = await self._free_parked(limit)
        await self._database.fetch("workers/rescue_clean")
        self._waker.due_again({job.queue for job in rescued if job.state == State.RETRYABLE} | queues)
        return tuple(rescued)

    async def _end(self, ids: Sequence[int]) -> list[Rescued]:
        rows = await self._database.fetch("workers/rescue_end", ids=numbers(ids), message=_CRASHED)
        return [Rescued(*row) for row in rows]

    async def _free_parked(self, limit: int) -> set[str]:
        """Let the jobs that dead workers have parked wait on without them; return the queues of those that are due."""
        but = numbers(self._aside.but("rescue"))
        rows = await self._database.fetch("workers/rescue_parked_find", but=but, limit=str(limit))
        freed = await self._aside.apart("rescue", [job_id for (job_id,) in rows], self._free)
        return {queue for queues in freed for queue in queues}

    async def _free(self, ids: Sequence[int]) -> list[str]:
        ((queues,),) = await self._database.fetch("workers/rescue_parked", ids=numbers(ids))
        return list(queues)

    async def lead(self, role: str, worker: str, *, seconds: float) -> int | None:
        rows = await self._database.fetch_for_lease(
            "workers/lead", role=role, worker=worker, seconds=str(seconds)
        )
        return rows[0][0] if rows else None

    async def resign(self, role: str, worker: str) -> None:
        await self._database.fetch_for_lease("workers/resign", role=role, worker=worker)


async def _changes(session: Session, worker: str) -> Changes:
    known, cancels, nurseries, queues = (await session.fetch("workers/changes", worker=worker))[0]
    return Changes(
        known=known,
        cancels=tuple(
            CancelRequest(JobRef(id, lease), reason, stop)
            for id, lease, reason, stop in json.loads(cancels or "[]")
        ),
        nurseries=tuple(
            NurseryEnding(JobRef(id, lease), name) for id, lease, name in json.loads(nurseries or "[]")
        ),
        queues=tuple(
            QueueSettings(name, paused=paused, concurrency=stored.concurrency_of(concurrency))
            for name, paused, concurrency in json.loads(queues or "[]")
        ),
    )
