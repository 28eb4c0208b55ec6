"""Be the storage that keeps everything in one SQLite file, or in memory.

Each method is a plain function over a `Transaction` (claim.py, finish.py, …), run by the `Database`.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from functools import partial
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal

import attrs
import trio

from jobrt._storage.base import Exchange
from jobrt._storage.sql_files import status, unmigrated
from jobrt._storage.sqlite import claim, finish, insert, look, schema, workers
from jobrt._storage.sqlite.blocking import insert_joined, join
from jobrt._storage.sqlite.database import Database, open_database
from jobrt._storage.sqlite.rows import micros, moment
from jobrt.errors import LeaseLost

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from jobrt._core.job import JobRecord, JobRef, NewJob, Outcome
    from jobrt._core.limits import Demand
    from jobrt._events import Event
    from jobrt._storage.base import Changes, Inserted, Rescued, SchemaStatus, Storage, Wake, WorkerRow
    from jobrt._storage.sqlite.transaction import Transaction

__all__ = ["SqliteStorage", "open_sqlite"]


@asynccontextmanager
async def open_sqlite(
    path: str | PathLike[str],
    *,
    clock: Callable[[], datetime] | None = None,
    migrate: bool = True,
    emit: Callable[[Event], None] | None = None,  # noqa: ARG001 - both engines open alike; this one has no outages of its own
) -> AsyncGenerator[Storage]:
    """Open a file (made if need be), or ``":memory:"``, and close it when the block ends.

    Args:
        path: where; its folder must exist.
        clock: tells the time instead of the system's clock; called in the event loop.
        migrate: bring the tables to this jobrt's schema.
        emit: where events go.

    Raises:
        SchemaError: the file was made by a newer jobrt.
        StorageError: in one line, why the file cannot be used.

    """
    now = _system_clock if clock is None else partial(_told_by, clock)
    async with open_database(fspath(path), now) as database:
        storage = SqliteStorage(database)
        if migrate:
            await storage.migrate()
        yield storage


def _system_clock() -> int:
    return time.time_ns() // 1000


def _told_by(clock: Callable[[], datetime]) -> int:
    return micros(clock())


@attrs.define(eq=False)
class SqliteStorage:
    """Implement `jobrt._storage.base.Storage`, where the methods are described."""

    _database: Database

    @property
    def engine(self) -> Literal["sqlite"]:
        """Name the engine."""
        return "sqlite"

    # ------------------------------------------------------------------ schema

    async def schema(self) -> SchemaStatus:
        """Say which migrations are there."""
        return status(schema.MIGRATIONS, await self._database.read(schema.applied))

    async def migrate(self) -> tuple[str, ...]:
        """Apply what is pending; a schema that is right is only read, so a locked file opens at once."""
        found = await self.schema()
        if not found.pending and not found.newer:
            return ()
        return await self._database.write(partial(schema.migrate, place=self._database.path))

    async def check_schema(self) -> None:
        """Raise `SchemaError` unless the schema is this jobrt's."""
        applied = await self._database.read(schema.applied)
        error = unmigrated(schema.MIGRATIONS, applied, where=self._database.path)
        if error is not None:
            raise error

    async def now(self) -> datetime:
        """Return the storage's time."""
        await trio.lowlevel.checkpoint()
        return moment(self._database.micros())

    # ------------------------------------------------------------------ enqueue

    async def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]:
        """Insert jobs, in a transaction of their own or the caller's."""
        if conn is None:
            return await self._database.write(partial(insert.insert, jobs=jobs))
        await trio.lowlevel.checkpoint()
        # A transaction opened by `transaction` wakes by itself; any other one is seen, after its commit, by the poll.
        tx = self._database.joined(conn) or join(conn, self._database.micros())
        return insert_joined(tx, jobs)

    # ------------------------------------------------------------------ attempts

    async def exchange(self, outcomes: Sequence[Outcome], demand: Demand) -> Exchange:
        """Write outcomes and claim, in one transaction."""
        return await self._database.write(partial(_exchange, outcomes=outcomes, demand=demand))

    async def finish(self, outcomes: Sequence[Outcome]) -> tuple[JobRef, ...]:
        """Write outcomes."""
        return await self._database.write(partial(finish.finish, outcomes=outcomes))

    async def release_unknown(self, worker: str, queue: str, known: Sequence[JobRef]) -> int:
        """Give back what a lost reply claimed."""
        return await self._database.write(partial(finish.release_unknown, worker=worker, queue=queue, known=known))

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

    # ------------------------------------------------------------------ workers

    async def register(self, worker: str, *, lease: float, info: Mapping[str, Any]) -> None:
        """Add a worker."""
        await self._database.write(partial(workers.register, worker=worker, lease=lease, info=info))

    async def beat(self, worker: str, *, lease: float, info: Mapping[str, Any]) -> Changes:
        """Renew a worker."""
        return await self._database.write(partial(workers.beat, worker=worker, lease=lease, info=info))

    async def changes(self, worker: str) -> Changes:
        """Return what a worker must know."""
        return await self._database.read(partial(workers.changes, worker=worker))

    async def unregister(self, worker: str) -> None:
        """Remove a worker."""
        await self._database.write(partial(workers.unregister, worker=worker))

    async def workers(self) -> tuple[WorkerRow, ...]:
        """Return all workers."""
        return await self._database.read(workers.workers)

    async def rescue(self, *, limit: int = 1000) -> tuple[Rescued, ...]:
        """Rescue dead workers' jobs."""
        return await self._database.write(partial(workers.rescue, limit=limit))

    async def lead(self, role: str, worker: str, *, seconds: float) -> int | None:
        """Take or renew a leadership."""
        return await self._database.write(partial(workers.lead, role=role, worker=worker, seconds=seconds))

    async def resign(self, role: str, worker: str) -> None:
        """Give up a leadership."""
        await self._database.write(partial(workers.resign, role=role, worker=worker))

    # ------------------------------------------------------------------ wake-ups

    async def listen(
        self, deliver: Callable[[Wake], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Deliver hints until cancelled."""
        await self._database.listen(deliver, task_status)

    async def next_due(self, queues: Sequence[str]) -> Mapping[str, float]:
        """Return the seconds until queues have a job due."""
        return await self._database.read(partial(claim.next_due, queues=queues))

    # ------------------------------------------------------------------ look and manage

    async def get(self, job_id: int) -> JobRecord | None:
        """Return a job."""
        return await self._database.read(partial(look.get, job_id=job_id))


def _exchange(tx: Transaction, *, outcomes: Sequence[Outcome], demand: Demand) -> Exchange:
    refused = finish.finish(tx, outcomes) if outcomes else ()
    jobs = claim.claim(tx, demand)
    due = None
    if not demand.empty and len(jobs) < demand.limit:
        due = claim.next_due(tx, [demand.queue]).get(demand.queue)
    return Exchange(refused, jobs, due)


def _lost(ref: JobRef) -> LeaseLost:
    return LeaseLost(f"job {ref.id} is no longer this attempt's: it was rescued, cancelled or deleted meanwhile")
