"""Queues in SQLite."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import attrs

from jobrt._core import stored
from jobrt._core.queues import QueueStatus
from jobrt._storage.sqlite.database import Database
from jobrt._storage.sqlite.transaction import SQL, Transaction
from jobrt._storage.sqlite.workers import all_workers

_Lane: TypeAlias = tuple[tuple[int, int, int | None, list[str]], tuple[int, int, int]]
"""Waiting jobs of one priority: due ones (available, retryable, oldest due time, names), future ones by state."""


@attrs.frozen
class SqliteQueues:
    """Implementation of `QueueStore`."""

    _database: Database

    async def all(self, *, limit: int | None = None) -> tuple[QueueStatus, ...]:
        return await self._database.read(partial(_all, limit=limit))

    async def set(
        self, name: str, *, paused: bool | None = None, concurrency: int | Literal["default"] | None = None
    ) -> None:
        new = {
            "name": name,
            "paused": paused,
            "concurrency": None if concurrency == "default" else concurrency,
            "as_configured": concurrency == "default",
        }
        await self._database.write(partial(_set, new=new))


def _set(tx: Transaction, new: dict[str, Any]) -> None:
    tx.run(SQL["queues/set"], new)
    tx.control = True


def _all(tx: Transaction, *, limit: int | None) -> tuple[QueueStatus, ...]:
    found: dict[str, dict[str, Any]] = {}
    for name, paused, concurrency in tx.array(SQL["queues/settings"]):
        found[name] = {"paused": bool(paused), "concurrency": stored.concurrency_of(concurrency)}
    lanes: dict[str, list[_Lane]] = {}
    limits = {"now": tx.now, "limit": -1 if limit is None else limit}
    for name, due, later in tx.array(SQL["queues/all_waiting"], limits):
        lanes.setdefault(name, []).append((due, later))
    for name, those in lanes.items():
        found.setdefault(name, {}).update(_waiting(those, now=tx.now, limit=limit))
    for name, claimed, executing in tx.array(SQL["queues/all_executing"]):
        found.setdefault(name, {}).update(claimed=claimed, executing=executing)
    served = [worker.info.queues for worker in all_workers(tx) if worker.alive]
    return tuple(
        QueueStatus(name=name, workers=sum(name in queues for queues in served), **status)
        for name, status in sorted(found.items())
    )


def _waiting(lanes: Sequence[_Lane], *, now: int, limit: int | None) -> dict[str, Any]:
    """Return the status fields for a queue's waiting jobs, summed over its priorities."""
    oldest = min((due[2] for due, _ in lanes if due[2] is not None), default=None)
    counted = [number for due, later in lanes for number in (due[0] + due[1], sum(later))]
    return {
        "available": sum(due[0] + later[1] for due, later in lanes),
        "scheduled": sum(later[0] for _, later in lanes),
        "retryable": sum(due[1] + later[2] for due, later in lanes),
        "oldest_due": None if oldest is None else (now - oldest) / 1e6,
        "names": tuple(sorted({name for due, _ in lanes for name in due[3]})) if limit is not None else (),
        "more": limit is not None and max(counted) >= limit,
    }
