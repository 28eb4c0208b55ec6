"""Attempts in SQLite: claims, outcomes, and what running jobs save."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import attrs

from jobrt._core.job import JobRef, Outcome, Start
from jobrt._core.limits import Demand
from jobrt._storage.contract import Exchange
from jobrt._storage.sqlite.async_connection import AsyncConnection
from jobrt._storage.sqlite.claim import claim, next_due
from jobrt._storage.sqlite.database import Database
from jobrt._storage.sqlite.finish import finish, release_unknown, show_started
from jobrt._storage.sqlite.transaction import SQL, Transaction
from jobrt.errors import LeaseLost


@attrs.frozen
class SqliteAttempts:
    """Implementation of `AttemptStore`."""

    _database: Database

    async def exchange(self, outcomes: Sequence[Outcome], demand: Demand) -> Exchange:
        registered = self._database.registered
        if registered is not None and demand.worker not in registered:
            # Others would take its jobs for those of a dead worker.
            demand = attrs.evolve(demand, limit=0)
        return await self._database.write(partial(_exchange, outcomes=outcomes, demand=demand))

    async def finish(self, outcomes: Sequence[Outcome]) -> tuple[JobRef, ...]:
        return await self._database.write(partial(finish, outcomes=outcomes))

    async def show_started(self, starts: Sequence[Start]) -> None:
        await self._database.write(partial(show_started, starts=starts))

    async def release_unknown(self, worker: str, queue: str, known: Sequence[JobRef]) -> int:
        return await self._database.write(partial(release_unknown, worker=worker, queue=queue, known=known))

    async def save(self, ref: JobRef, *, progress: str | None = None, saved: str | None = None) -> bool:
        return await self._database.write(partial(_save, ref=ref, progress=progress, saved=saved))

    async def steps(self, ref: JobRef) -> Mapping[str, str]:
        return await self._database.read(partial(_steps, ref=ref))

    async def save_step(self, ref: JobRef, name: str, value: str) -> bool:
        return await self._database.write(partial(_save_step, ref=ref, name=name, value=value))

    @asynccontextmanager
    async def transaction(self, ref: JobRef, outcome: Outcome) -> AsyncGenerator[AsyncConnection]:
        def enter(tx: Transaction) -> None:
            if not _held(tx, ref):
                raise _lost(ref)

        def leave(tx: Transaction) -> None:
            if finish(tx, [outcome]):
                raise _lost(ref)

        async with self._database.hold(enter, leave) as connection:
            yield connection


def _exchange(tx: Transaction, *, outcomes: Sequence[Outcome], demand: Demand) -> Exchange:
    refused = finish(tx, outcomes) if outcomes else ()
    jobs = claim(tx, demand)
    due = next_due(tx, demand.queue) if not demand.empty and len(jobs) < demand.limit else None
    return Exchange(refused, jobs, due, tx.now)


def _save(tx: Transaction, ref: JobRef, *, progress: str | None, saved: str | None) -> bool:
    if not tx.run(SQL["attempts/save_flag"], ref._asdict()):
        return False
    tx.run(SQL["attempts/save"], {"id": ref.id, "progress": progress, "saved": saved})
    return True


def _steps(tx: Transaction, ref: JobRef) -> dict[str, str]:
    found: dict[str, str] = json.loads(tx.value(SQL["attempts/steps"], (ref.id,)))
    return found


def _save_step(tx: Transaction, ref: JobRef, *, name: str, value: str) -> bool:
    tx.run(SQL["attempts/save_step"], {**ref._asdict(), "name": name, "value": value})
    return _held(tx, ref)


def _held(tx: Transaction, ref: JobRef) -> bool:
    return bool(tx.value(SQL["attempts/held"], ref._asdict()))


def _lost(ref: JobRef) -> LeaseLost:
    return LeaseLost(
        f"job {ref.id} no longer belongs to this attempt: it was rescued, cancelled or deleted meanwhile"
    )
