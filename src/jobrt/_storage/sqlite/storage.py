"""Be the storage that keeps everything in one SQLite file, or in memory.

Each method is a plain function over a `Transaction` (claim.py, finish.py, …), run by the `Database`.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from functools import partial
from os import PathLike, fspath
from typing import TYPE_CHECKING

import attrs

from jobrt._storage.contract import Exchange, Storage
from jobrt._storage.sqlite import claim, finish
from jobrt._storage.sqlite.crons import SqliteCrons
from jobrt._storage.sqlite.database import Database, open_database
from jobrt._storage.sqlite.jobs import SqliteJobs
from jobrt._storage.sqlite.queues import SqliteQueues
from jobrt._storage.sqlite.rows import micros
from jobrt._storage.sqlite.schema import SqliteSchema
from jobrt._storage.sqlite.wakes import SqliteWakes
from jobrt._storage.sqlite.workers import SqliteWorkers
from jobrt.errors import LeaseLost

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from datetime import datetime

    from jobrt._core.job import JobRef, Outcome
    from jobrt._core.limits import Demand
    from jobrt._storage.sqlite.transaction import Transaction

__all__ = ["open_sqlite"]


@asynccontextmanager
async def open_sqlite(
    path: str | PathLike[str],
    *,
    clock: Callable[[], datetime] | None = None,
    migrate: bool = True,
) -> AsyncGenerator[Storage]:
    """Open a file (made if need be), or ``":memory:"``, and close it when the block ends.

    Args:
        path: where; its folder must exist.
        clock: tells the time instead of the system's clock; called in the event loop.
        migrate: bring the tables to this jobrt's schema.

    Raises:
        SchemaError: the file was made by a newer jobrt.
        StorageError: in one line, why the file cannot be used.

    """
    now = _system_clock if clock is None else partial(_told_by, clock)
    async with open_database(fspath(path), now) as database:
        schema = SqliteSchema(database)
        if migrate:
            await schema.migrate()
        yield Storage(
            engine="sqlite",
            schema=schema,
            jobs=SqliteJobs(database),
            attempts=SqliteAttempts(database),
            workers=SqliteWorkers(database),
            queues=SqliteQueues(database),
            crons=SqliteCrons(database),
            wakes=SqliteWakes(database),
        )


def _system_clock() -> int:
    return time.time_ns() // 1000


def _told_by(clock: Callable[[], datetime]) -> int:
    return micros(clock())


@attrs.define(eq=False)
class SqliteAttempts:
    """Implement `AttemptStore`."""

    _database: Database

    async def exchange(self, outcomes: Sequence[Outcome], demand: Demand) -> Exchange:
        """Write outcomes and claim, in one transaction."""
        return await self._database.write(partial(_exchange, outcomes=outcomes, demand=demand))

    async def finish(self, outcomes: Sequence[Outcome]) -> tuple[JobRef, ...]:
        """Write outcomes."""
        return await self._database.write(partial(finish.finish, outcomes=outcomes))

    async def release_unknown(self, worker: str, queue: str, known: Sequence[JobRef]) -> int:
        """Give back what a lost reply claimed."""
        return await self._database.write(
            partial(finish.release_unknown, worker=worker, queue=queue, known=known)
        )

    async def save(self, ref: JobRef, *, progress: str | None = None, saved: str | None = None) -> bool:
        """Store progress and checkpoint."""
        return await self._database.write(partial(finish.save, ref=ref, progress=progress, saved=saved))

    async def steps(self, ref: JobRef) -> Mapping[str, str]:
        """Return finished steps."""
        return await self._database.read(partial(finish.steps, ref=ref))

    async def save_step(self, ref: JobRef, name: str, value: str) -> bool:
        """Store a finished step."""
        return await self._database.write(partial(finish.save_step, ref=ref, name=name, value=value))

    @asynccontextmanager
    async def transaction(self, ref: JobRef, outcome: Outcome) -> AsyncGenerator[sqlite3.Connection]:
        """Open a transaction under the lease."""

        def enter(tx: Transaction) -> None:
            if not finish.owned(tx, ref):
                raise _lost(ref)

        def leave(tx: Transaction) -> None:
            if finish.finish(tx, [outcome]):
                raise _lost(ref)

        async with self._database.hold(enter, leave) as connection:
            yield connection


def _exchange(tx: Transaction, *, outcomes: Sequence[Outcome], demand: Demand) -> Exchange:
    refused = finish.finish(tx, outcomes) if outcomes else ()
    jobs = claim.claim(tx, demand)
    due = None
    if not demand.empty and len(jobs) < demand.limit:
        due = claim.next_due(tx, [demand.queue]).get(demand.queue)
    return Exchange(refused, jobs, due)


def _lost(ref: JobRef) -> LeaseLost:
    return LeaseLost(
        f"job {ref.id} is no longer this attempt's: it was rescued, cancelled or deleted meanwhile"
    )
