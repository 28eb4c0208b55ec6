"""Keep cron entries, and fire each tick once over the whole cluster."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jobrt._storage.contract import CronRow
from jobrt._storage.postgres.encode import instant
from jobrt._storage.postgres.insert import drive, insert_steps
from jobrt._storage.postgres.rows import aware

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from jobrt._core.job import NewJob
    from jobrt._storage.postgres.database import Database
    from jobrt._storage.postgres.rows import Row
    from jobrt._storage.postgres.wake import Waker

__all__ = ["delete", "fire", "put", "rows", "set_entry"]


def _row(row: Row) -> CronRow:
    name, spec, paused, last_tick, created_at = row
    return CronRow(
        name=name,
        spec=json.loads(spec),
        paused=paused,
        last_tick=aware(last_tick),
        created_at=aware(created_at),
    )


async def put(database: Database, row: CronRow) -> CronRow:
    """Add an entry, or change its spec."""
    found = await database.fetch(
        "cron_put",
        name=row.name,
        spec=json.dumps(row.spec),
        paused="t" if row.paused else "f",
        last_tick=instant(row.last_tick),
    )
    return _row(found[0])


async def rows(database: Database) -> tuple[CronRow, ...]:
    """Return all entries by name."""
    return tuple(map(_row, await database.fetch("cron_rows")))


async def set_entry(
    database: Database, name: str, *, paused: bool | None, spec: Mapping[str, Any] | None
) -> bool:
    """Pause, resume or change an entry."""
    return bool(
        await database.fetch(
            "cron_set",
            name=name,
            paused=None if paused is None else "t" if paused else "f",
            spec=None if spec is None else json.dumps(spec),
        )
    )


async def delete(database: Database, name: str) -> bool:
    """Remove an entry."""
    return bool(await database.fetch("cron_delete", name=name))


async def fire(
    database: Database, waker: Waker, name: str, *, tick: datetime, job: NewJob | None
) -> int | None:
    """Mark a tick as passed and enqueue its job in the same transaction."""
    with waker.insert() as wake:
        async with database.session() as session, session.conn.transaction():
            ours = await session.fetch("cron_tick", name=name, tick=instant(tick))
            if not ours or job is None:
                return None
            (inserted,) = await drive(session, insert_steps(database.schema, [job], wake=wake))
    return inserted.id
