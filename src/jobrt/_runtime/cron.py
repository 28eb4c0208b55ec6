"""Fire cron entries: one job per tick over the whole cluster, however many workers tick."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from jobrt._core.cron import CronEntry, next_tick, orphaned, reconcile, ticks_due
from jobrt._storage.contract import CronRow
from jobrt.errors import JobrtError, StorageUnavailable
from jobrt.events import CronFailed, CronFired, EventBus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from jobrt._core.job import NewJob
    from jobrt._runtime.outage import Backoff
    from jobrt._storage.contract import CronStore, SchemaStore


_LOOK_AGAIN = 15.0
"""Seconds after which the entries are read again: they can be changed at run time, by other processes."""


def _entry(row: CronRow) -> CronEntry:
    return CronEntry.from_spec(row.name, row.spec, paused=row.paused, anchor=row.created_at)


async def declare(crons: CronStore, schema: SchemaStore, entries: Sequence[CronEntry]) -> None:
    """Store the entries declared in code; what was changed at run time since stays as `reconcile` says."""
    if not entries:
        return
    stored = {row.name: row for row in await crons.all()}
    now = await schema.now()
    for declared in entries:
        row = stored.get(declared.name)
        wanted = reconcile(declared, None if row is None else _entry(row), now=now)
        if row is None or dict(row.spec) != wanted.spec():
            await crons.put(CronRow(name=wanted.name, spec=wanted.spec(), paused=wanted.paused))


@attrs.define(eq=False)
class CronActor:
    """Sleep until the next tick of any entry, and enqueue its job.

    Every worker does so; the storage's constraint lets one of them succeed per tick. Whether a tick is due is judged by
    the storage's clock. An entry that fails is told about and tried again; the others go on. An entry whose
    job this app does
    not know is left to workers that do, and one that this app's code no longer declares to those whose code does.
    """

    crons: CronStore
    schema: SchemaStore
    declared: Sequence[CronEntry]
    make_job: Callable[[CronEntry], NewJob | None]
    backoff: Backoff
    emit: EventBus
    _failed: dict[str, str] = attrs.Factory(dict)
    _names: frozenset[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._names = frozenset(one.name for one in self.declared)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fire ticks until cancelled."""
        task_status.started()
        declared = False
        while True:
            try:
                if not declared:
                    await declare(self.crons, self.schema, self.declared)
                    declared = True
                pause = await self._round()
            except StorageUnavailable as error:
                await self.backoff.wait(error)
                continue
            self.backoff.reset()
            await trio.sleep(pause)

    async def _round(self) -> float:
        """Fire what is due; return seconds until it is worth looking again."""
        rows = await self.crons.all()
        if not rows:
            return _LOOK_AGAIN
        now = await self.schema.now()
        waits = [await self._fire_due(row, now) for row in rows]
        return min(_LOOK_AGAIN, *waits)

    async def _fire_due(self, row: CronRow, now: datetime) -> float:
        try:
            entry = _entry(row)
            job = None if orphaned(entry, self._names) else self.make_job(entry)
            if job is None:
                return _LOOK_AGAIN
            due = ticks_due(entry, last=row.last_tick, now=now)
            for tick in due:
                await self._fire(entry, tick, job)
            upcoming = next_tick(entry, now)
        except StorageUnavailable:
            raise
        except JobrtError as error:
            self._tell_failure(row.name, error)
            return _LOOK_AGAIN
        self._failed.pop(row.name, None)
        return _LOOK_AGAIN if upcoming is None else max(0.001, (upcoming - now).total_seconds())

    async def _fire(self, entry: CronEntry, tick: datetime, job: NewJob) -> None:
        job_id = await self.crons.fire(
            entry.name, tick, job._replace(context=f"cron {entry.name} {tick.isoformat()}")
        )
        if job_id is not None:
            self.emit(CronFired(entry.name, tick.isoformat(), job_id))

    def _tell_failure(self, name: str, error: JobrtError) -> None:
        """Tell once for each new error, not at every look."""
        text = f"{type(error).__name__}: {error}"
        if self._failed.get(name) != text:
            self._failed[name] = text
            self.emit(CronFailed(name, text))
