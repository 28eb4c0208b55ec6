"""Keep track of workers, of who leads, and of what operators want from them."""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, Any

from jobrt._core.job import JobRef
from jobrt._storage.contract import CancelRequest, Changes, QueueSettings, WorkerRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobrt._storage.postgres.database import Database
    from jobrt._storage.postgres.session import Session

__all__ = ["beat", "changes", "lead", "register", "resign", "unregister", "workers"]


async def register(database: Database, worker: str, *, lease: float, info: Mapping[str, Any]) -> None:
    """Add a worker."""
    await database.keep("register", worker=worker, lease=str(lease), info=json.dumps(info))


async def beat(database: Database, worker: str, *, lease: float, info: Mapping[str, Any]) -> Changes:
    """Renew a worker and return what it must know."""
    async with database.session(keeping=True) as session:
        await session.fetch("beat", worker=worker, lease=str(lease), info=json.dumps(info))
        return await _changes(session, worker)


async def changes(database: Database, worker: str) -> Changes:
    """Return what a worker must know."""
    async with database.session() as session:
        return await _changes(session, worker)


async def _changes(session: Session, worker: str) -> Changes:
    known, cancels, queues = (await session.fetch("changes", worker=worker))[0]
    return Changes(
        known=known,
        cancels=tuple(
            CancelRequest(JobRef(id, lease), why) for id, lease, why in json.loads(cancels or "[]")
        ),
        queues=tuple(
            QueueSettings(name, paused=paused, concurrency=concurrency)
            for name, paused, concurrency in json.loads(queues or "[]")
        ),
    )


async def unregister(database: Database, worker: str) -> None:
    """Remove a worker."""
    await database.keep("unregister", worker=worker)


async def workers(database: Database) -> tuple[WorkerRow, ...]:
    """Return all workers by id."""
    return tuple(
        WorkerRow(
            id=id,
            started_at=started_at.replace(tzinfo=UTC),
            beat_at=beat_at.replace(tzinfo=UTC),
            expires_at=expires_at.replace(tzinfo=UTC),
            alive=alive,
            info=json.loads(info),
        )
        for id, started_at, beat_at, expires_at, alive, info in await database.fetch("workers")
    )


async def lead(database: Database, role: str, worker: str, *, seconds: float) -> int | None:
    """Take or renew a leadership; return its term."""
    rows = await database.keep("lead", role=role, worker=worker, seconds=str(seconds))
    return rows[0][0] if rows else None


async def resign(database: Database, role: str, worker: str) -> None:
    """Give up a leadership."""
    await database.keep("resign", role=role, worker=worker)
