"""Keep cron entries, and enqueue one job per tick."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jobrt._storage.contract import CronRow
from jobrt._storage.sqlite.insert import insert
from jobrt._storage.sqlite.rows import dumps, micros, moment
from jobrt._storage.sqlite.transaction import SQL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from jobrt._core.job import NewJob
    from jobrt._storage.sqlite.transaction import Transaction

__all__ = ["cron_delete", "cron_fire", "cron_put", "cron_rows", "cron_set"]


def cron_put(tx: Transaction, row: CronRow) -> CronRow:
    """Add an entry, or change the spec of the one that is there."""
    new = {
        "name": row.name,
        "spec": dumps(dict(row.spec)),
        "paused": row.paused,
        "last_tick": None if row.last_tick is None else micros(row.last_tick),
        "now": tx.now if row.created_at is None else micros(row.created_at),
    }
    tx.run(SQL["cron_put"], new)
    tx.control = True
    return next(one for one in cron_rows(tx) if one.name == row.name)


def cron_rows(tx: Transaction) -> tuple[CronRow, ...]:
    """Return all entries by name."""
    return tuple(
        CronRow(
            name=name,
            spec=json.loads(spec),
            paused=bool(paused),
            last_tick=None if last_tick is None else moment(last_tick),
            created_at=moment(created_at),
        )
        for name, spec, paused, last_tick, created_at in tx.array(SQL["cron_rows"])
    )


def cron_set(tx: Transaction, name: str, *, paused: bool | None, spec: Mapping[str, Any] | None) -> bool:
    """Pause, resume or change an entry; False if there is none."""
    new = {"name": name, "paused": paused, "spec": None if spec is None else dumps(dict(spec))}
    tx.control = True
    return tx.run(SQL["cron_set"], new) > 0


def cron_delete(tx: Transaction, name: str) -> bool:
    """Remove an entry; False if there is none."""
    tx.control = True
    return tx.run(SQL["cron_delete"], (name,)) > 0


def cron_fire(tx: Transaction, name: str, *, tick: datetime, job: NewJob | None) -> int | None:
    """Mark a tick as fired and enqueue its job; None if it, or a later one, was fired before."""
    if not tx.run(SQL["cron_fire"], {"name": name, "tick": micros(tick)}) or job is None:
        return None
    return insert(tx, [job])[0].id
