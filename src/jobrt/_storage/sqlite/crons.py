"""Cron entries in SQLite."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

import attrs

from jobrt._core import stored
from jobrt._core.job import NewJob
from jobrt._storage.contract import CronRow
from jobrt._storage.sqlite.database import Database
from jobrt._storage.sqlite.insert import insert
from jobrt._storage.sqlite.rows import dumps, micros, moment
from jobrt._storage.sqlite.transaction import SQL, Transaction


@attrs.frozen
class SqliteCrons:
    """Implementation of `CronStore`."""

    _database: Database

    async def put(self, row: CronRow) -> CronRow:
        return await self._database.write(partial(_put, row=row))

    async def all(self) -> tuple[CronRow, ...]:
        return await self._database.read(_all)

    async def set(
        self, name: str, *, paused: bool | None = None, spec: Mapping[str, Any] | None = None
    ) -> bool:
        return await self._database.write(partial(_set, name=name, paused=paused, spec=spec))

    async def delete(self, name: str) -> bool:
        return await self._database.write(partial(_delete, name=name))

    async def fire(
        self, name: str, tick: datetime, job: NewJob | None, *, last: datetime | None = None
    ) -> int | None:
        known = None if last is None else micros(last)
        return await self._database.write(partial(_fire, name=name, tick=micros(tick), job=job, last=known))


def _put(tx: Transaction, row: CronRow) -> CronRow:
    new = {
        "name": row.name,
        "spec": dumps(dict(row.spec)),
        "paused": row.paused,
        "last_tick": None if row.last_tick is None else micros(row.last_tick),
        "now": tx.now if row.created_at is None else micros(row.created_at),
    }
    tx.run(SQL["crons/put"], new)
    tx.control = True
    return next(stored for stored in _all(tx) if stored.name == row.name)


def _all(tx: Transaction) -> tuple[CronRow, ...]:
    return tuple(
        CronRow(
            name=name,
            spec=stored.json_object(spec),
            paused=bool(paused),
            last_tick=None if last_tick is None else moment(last_tick),
            created_at=moment(created_at),
        )
        for name, spec, paused, last_tick, created_at in tx.array(SQL["crons/all"])
    )


def _set(tx: Transaction, name: str, *, paused: bool | None, spec: Mapping[str, Any] | None) -> bool:
    new = {"name": name, "paused": paused, "spec": None if spec is None else dumps(dict(spec))}
    tx.control = True
    return tx.run(SQL["crons/set"], new) > 0


def _delete(tx: Transaction, name: str) -> bool:
    tx.control = True
    return tx.run(SQL["crons/delete"], (name,)) > 0


def _fire(tx: Transaction, name: str, *, tick: int, job: NewJob | None, last: int | None) -> int | None:
    if not tx.run(SQL["crons/fire"], {"name": name, "tick": tick, "last": last}) or job is None:
        return None
    return insert(tx, [job])[0].id
