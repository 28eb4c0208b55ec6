"""Cron entries in PostgreSQL."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from jobrt._core import stored
from jobrt._core.job import NewJob
from jobrt._storage.contract import CronRow
from jobrt._storage.postgres.database import Database
from jobrt._storage.postgres.encode import boolean, instant
from jobrt._storage.postgres.insert import insert_steps
from jobrt._storage.postgres.rows import Row, aware
from jobrt._storage.postgres.steps import drive
from jobrt._storage.postgres.waker import Waker


@attrs.frozen
class PostgresCrons:
    """Implementation of `CronStore`."""

    _database: Database
    _waker: Waker

    async def put(self, row: CronRow) -> CronRow:
        rows = await self._database.fetch(
            "crons/put",
            name=row.name,
            spec=json.dumps(row.spec),
            paused=boolean(row.paused),
            last_tick=instant(row.last_tick),
        )
        return _entry(rows[0])

    async def all(self) -> tuple[CronRow, ...]:
        return tuple(map(_entry, await self._database.fetch("crons/all")))

    async def set(
        self, name: str, *, paused: bool | None = None, spec: Mapping[str, Any] | None = None
    ) -> bool:
        text = None if spec is None else json.dumps(spec)
        return bool(await self._database.fetch("crons/set", name=name, paused=boolean(paused), spec=text))

    async def delete(self, name: str) -> bool:
        return bool(await self._database.fetch("crons/delete", name=name))

    async def fire(
        self, name: str, tick: datetime, job: NewJob | None, *, last: datetime | None = None
    ) -> int | None:
        known = None if last is None else instant(last)
        with self._waker.insert() as wake:
            async with self._database.session() as session, session.conn.transaction():
                fired = await session.fetch("crons/fire", name=name, tick=instant(tick), last=known)
                if not fired or job is None:
                    return None
                (inserted,) = await drive(
                    session, insert_steps(session.schema, [job], wake=wake, keys=self._waker.keys)
                )
        return inserted.id


def _entry(row: Row) -> CronRow:
    name, spec, paused, last_tick, created_at = row
    return CronRow(
        name=name,
        spec=stored.json_object(spec),
        paused=paused,
        last_tick=aware(last_tick),
        created_at=aware(created_at),
    )
