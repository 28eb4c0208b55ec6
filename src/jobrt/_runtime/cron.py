"""Actor that fires cron entries: one job per tick in the whole cluster."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import attrs
import trio

from jobrt._client import Handle
from jobrt._client.hooks import EnqueueHook, Jobs, around_enqueue
from jobrt._core.cron import CronEntry, next_tick, orphaned, reconcile, ticks_due
from jobrt._core.text import in_one_line
from jobrt._registry import JobWithOptions, Registry, new_job
from jobrt._runtime.channels import Wakeup
from jobrt._runtime.outage import Backoff
from jobrt._storage.contract import CronRow, CronStore, SchemaStore
from jobrt.errors import HookFailed, JobrtError, StorageUnavailable
from jobrt.events import CronFailed, CronFired, EventBus

RELOAD_INTERVAL = 15.0
"""Seconds after which the entries are read again: other processes can change them at run time.

An entry that failed is tried again after this time, also in virtual time.
"""


def _entry(row: CronRow) -> CronEntry:
    return CronEntry.from_spec(row.name, row.spec, paused=row.paused, anchor=row.created_at)


async def declare(crons: CronStore, schema: SchemaStore, entries: Sequence[CronEntry]) -> None:
    """Store the entries declared in code; `reconcile` decides which changes at run time are kept."""
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
    """Actor that sleeps until the next tick of any entry, and enqueues its job.

    Every worker does so; a constraint of the database lets only one of them succeed per tick. The database's clock
    decides whether a tick is due. An entry that fails is reported and retried, and does not delay the others. Entries
    whose job this app does not know, or that its code no longer declares, are left to other workers.
    """

    crons: CronStore
    schema: SchemaStore
    declared: Sequence[CronEntry]
    make_job: Callable[[CronEntry], JobWithOptions[Any] | None]
    registry: Registry
    backoff: Backoff
    emit: EventBus
    hooks: Sequence[EnqueueHook] = ()
    reload: float = RELOAD_INTERVAL
    wake: Wakeup = attrs.Factory(Wakeup)
    _failed: dict[str, str] = attrs.Factory(dict)
    _names: frozenset[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._names = frozenset(entry.name for entry in self.declared)

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
            with trio.move_on_after(pause):
                await self.wake.wait()

    async def _round(self) -> float:
        """Fire due ticks; return the seconds until the next round."""
        rows = await self.crons.all()
        if not rows:
            return self.reload
        now = await self.schema.now()
        waits = [await self._fire_due(row, now) for row in rows]
        return min(self.reload, *waits)

    async def _fire_due(self, row: CronRow, now: datetime) -> float:
        try:
            entry = _entry(row)
            job = None if orphaned(entry, self._names) else self.make_job(entry)
            if job is None:
                return self.reload
            last = row.last_tick
            for tick in ticks_due(entry, last=last, now=now):
                await self._fire(entry, job, tick=tick, last=last)
                last = tick
            upcoming = next_tick(entry, now)
        except StorageUnavailable:
            raise
        except JobrtError as error:
            self._report_failure(row.name, error)
            return RELOAD_INTERVAL
        self._failed.pop(row.name, None)
        return self.reload if upcoming is None else max(0.001, (upcoming - now).total_seconds())

    async def _fire(
        self, entry: CronEntry, job: JobWithOptions[Any], *, tick: datetime, last: datetime | None
    ) -> None:
        insert = partial(self._insert, entry.name, tick=tick, last=last)
        jobs = [job.with_options(context=f"cron {entry.name} {tick.isoformat()}")]
        try:
            await around_enqueue(self.hooks, jobs, insert)
        except JobrtError:
            raise
        except Exception as error:
            raise HookFailed(f"a hook around enqueues failed: {in_one_line(error)}") from error

    async def _insert(
        self, name: str, jobs: Jobs, *, tick: datetime, last: datetime | None
    ) -> list[Handle[Any]]:
        """Insert the job of a tick, unless another worker already has: its handle is then a duplicate, with id 0."""
        (job,) = jobs
        job_id = await self.crons.fire(name, tick, new_job(self.registry, job), last=last)
        if job_id is None:
            return [Handle(0, duplicate=True)]
        self.emit(CronFired(name, tick.isoformat(), job_id))
        return [Handle(job_id)]

    def _report_failure(self, name: str, error: JobrtError) -> None:
        """Report each new error once, not in every round."""
        text = f"{type(error).__name__}: {error}"
        if self._failed.get(name) != text:
            self._failed[name] = text
            self.emit(CronFailed(name, text))
