"""Queues in PostgreSQL."""

import json
from functools import partial
from typing import Literal

import attrs

from jobrt._core import stored
from jobrt._core.queues import QueueStatus
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.postgres.database import Database
from jobrt._storage.postgres.encode import boolean
from jobrt._storage.postgres.rows import Row
from jobrt._storage.postgres.session import Session
from jobrt._storage.postgres.waker import Waker


@attrs.frozen
class PostgresQueues:
    """Implementation of `QueueStore`."""

    _database: Database
    _waker: Waker

    async def all(self, *, limit: int | None = None) -> tuple[QueueStatus, ...]:
        return await self._database.bulk(partial(_all, limit=limit))

    async def set(
        self, name: str, *, paused: bool | None = None, concurrency: int | Literal["default"] | None = None
    ) -> None:
        await self._database.fetch(
            "queues/set",
            name=name,
            paused=boolean(paused),
            concurrency=None if concurrency in {None, "default"} else str(concurrency),
            set_concurrency=boolean(concurrency is not None),
        )
        self._waker.control()


async def _all(session: Session, *, limit: int | None) -> tuple[QueueStatus, ...]:
    if limit is not None:
        await session.fetch("queues/all_in_order")
    served = [WorkerInfo.from_json(info).queues for (info,) in await session.fetch("queues/all_workers")]
    if limit is None:
        rows = await session.run(session.schema.statement("queues/all", waiting="queues/all_waiting"))
    else:
        statement = session.schema.statement("queues/all", waiting="queues/all_waiting_limited")
        rows = await session.run(statement, limit=str(limit))
    return tuple(_status(row, workers=sum(row[0] in queues for queues in served)) for row in rows)


def _status(row: Row, *, workers: int) -> QueueStatus:
    (
        name,
        paused,
        concurrency,
        available,
        scheduled,
        retryable,
        claimed,
        executing,
        oldest_due,
        more,
        names,
    ) = row
    return QueueStatus(
        name=name,
        paused=paused,
        concurrency=stored.concurrency_of(concurrency),
        available=available,
        scheduled=scheduled,
        retryable=retryable,
        claimed=claimed,
        executing=executing,
        oldest_due=oldest_due,
        workers=workers,
        names=tuple(sorted({name for lane in json.loads(names or "[]") for name in lane or ()})),
        more=more,
    )
