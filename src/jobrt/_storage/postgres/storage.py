"""Answer the `Storage` Protocol with PostgreSQL."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
import trio

from jobrt._storage.contract import Inserted, Storage
from jobrt._storage.postgres import manage
from jobrt._storage.postgres.attempts import PostgresAttempts
from jobrt._storage.postgres.crons import PostgresCrons
from jobrt._storage.postgres.database import Database, open_database, retried
from jobrt._storage.postgres.encode import clean, numbers
from jobrt._storage.postgres.insert import drive, insert_one, insert_steps, one_statement
from jobrt._storage.postgres.names import Schema
from jobrt._storage.postgres.queues import PostgresQueues
from jobrt._storage.postgres.schema import PostgresSchema
from jobrt._storage.postgres.session import Session
from jobrt._storage.postgres.waker import Waker
from jobrt._storage.postgres.wakes import PostgresWakes
from jobrt._storage.postgres.workers import PostgresWorkers
from jobrt._trio_psycopg.errors import translate
from jobrt.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from jobrt._core.job import JobRecord, NewJob
    from jobrt._core.keep import PruneRule
    from jobrt._core.where import Where
    from jobrt._storage.contract import (
        Bucket,
    )

__all__ = ["open_postgres"]


@attrs.define(eq=False)
class PostgresJobs:
    """Implement `JobStore`."""

    _database: Database
    _waker: Waker

    async def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]:
        """Store jobs; in the transaction of ``conn``, if given."""
        if not jobs:
            await trio.lowlevel.checkpoint()
            return ()
        if conn is not None:
            return await self._insert_with(conn, jobs)
        inserted = await (
            self._insert_one(jobs[0]) if one_statement(jobs) else retried(partial(self._insert, jobs))
        )
        if any(job.schedule_at for job in jobs):
            self._waker.marks.doubt()  # a time in the past lies below what was claimed since
        return inserted

    async def _insert_one(self, job: NewJob) -> tuple[Inserted, ...]:
        """Store one job: what most callers wait for, so by the shortest way. It waits for no lock of another's."""
        with self._waker.insert() as wake:
            run = insert_one(self._database.schema, job, wake=wake)
            async with self._database.session() as session:
                rows = await session.run(run.statement, **run.values)
        return (Inserted(rows[0][0]),)

    async def _insert(self, jobs: Sequence[NewJob]) -> tuple[Inserted, ...]:
        with self._waker.insert() as wake:
            steps = insert_steps(self._database.schema, jobs, wake=wake)
            async with self._database.session() as session, session.conn.transaction():
                return await drive(session, steps)

    async def _insert_with(self, conn: object, jobs: Sequence[NewJob]) -> tuple[Inserted, ...]:
        if not isinstance(conn, psycopg.AsyncConnection):
            raise StorageError(f"conn is a {type(conn).__name__}: give a psycopg connection that Trio drives")
        steps = insert_steps(self._database.schema, jobs, wake=self._waker.in_transaction)
        try:
            return await drive(Session(conn, self._database.schema), steps)
        except psycopg.Error as error:
            raise translate(error, "in the caller's transaction", lost=conn.closed) from error

    async def get(self, job_id: int) -> JobRecord | None:
        """Return a job, or None."""
        async with self._database.session() as session:
            return await manage.get(session, job_id)

    async def query(
        self,
        where: Where,
        *,
        order_by: str = "-id",
        limit: int | None = None,
        after: int | None = None,
        details: bool = True,
    ) -> tuple[JobRecord, ...]:
        """Return the jobs that match."""
        look = partial(
            manage.query, where=where, order_by=order_by, limit=limit, after=after, details=details
        )
        found: tuple[JobRecord, ...] = await self._database.look(look)
        return found

    async def count(self, where: Where, *, limit: int | None = None) -> int:
        """Return how many jobs match."""
        number: int = await self._database.look(partial(manage.count, where=where, limit=limit))
        return number

    async def cancel(self, where: Where, reason: str, *, limit: int | None = None) -> tuple[int, int]:
        """Cancel waiting jobs, ask for running ones."""
        change = partial(manage.cancel, where=where, reason=clean(reason) or "", limit=limit)
        waiting, running = await self._database.look(change)
        if running:
            self._waker.control()
        return waiting, running

    async def rerun(self, where: Where, *, limit: int | None = None) -> int:
        """Make final jobs available now."""
        number, queues = await self._database.look(partial(manage.rerun, where=where, limit=limit))
        self._waker.due_again(queues)
        return int(number)

    async def update(self, where: Where, changes: Mapping[str, Any]) -> int:
        """Change waiting jobs."""
        number, queues = await self._database.look(partial(manage.update, where=where, changes=changes))
        self._waker.due_again(queues)
        return int(number)

    async def delete(self, where: Where, *, limit: int | None = None) -> int:
        """Delete jobs."""
        number: int = await self._database.look(partial(manage.delete, where=where, limit=limit))
        return number

    async def prune(self, rules: Sequence[PruneRule], *, limit: int = 10_000) -> int:
        """Delete final jobs as the rules say."""
        number: int = await self._database.look(partial(manage.prune, rules=rules, limit=limit))
        return number

    async def await_final(self, ids: Sequence[int]) -> Mapping[int, str | None]:
        """Return each job's state, and ask to be told the end of those not final."""
        known = numbers(ids)
        skipped = await self._database.fetch("await_flag", ids=known)
        states: dict[int, str] = dict(await self._database.fetch("await_states", ids=known))
        self._waker.due_again({queue for (queue,) in skipped})
        return {id: states.get(id) for id in ids}

    async def stats(self, *, since: datetime) -> tuple[Bucket, ...]:
        """Return what happened since a time."""
        found: tuple[Bucket, ...] = await self._database.look(partial(manage.stats, since=since))
        return found


@asynccontextmanager
async def open_postgres(
    url: str,
    *,
    schema: str = "jobrt",
    listen: bool = True,
    pool_size: int = 4,
) -> AsyncGenerator[Storage]:
    """Keep jobs in a PostgreSQL database; connections are opened when they are wanted.

    Args:
        url: a URL or conninfo, as libpq takes it.
        schema: the schema for the tables; `SchemaStore.migrate` makes it.
        listen: whether sessions are ours, so that LISTEN and prepared statements work; False behind a pooler in
            transaction mode.
        pool_size: connections for workers' calls. Listings, and jobs that use `AttemptStore.transaction`, have up to
            four times as many; heartbeats have one, and so has listening.

    Raises:
        StorageError: the schema's name is impossible, or the URL makes no sense.

    """
    async with open_database(url, schema=Schema(schema), listening=listen, pool_size=pool_size) as database:
        waker = Waker(database)
        raised: BaseException | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waker.run)
            nursery.start_soon(database.watch)
            try:
                yield Storage(
                    engine="postgres",
                    schema=PostgresSchema(database),
                    jobs=PostgresJobs(database, waker),
                    attempts=PostgresAttempts(database, waker),
                    workers=PostgresWorkers(database, waker),
                    queues=PostgresQueues(database, waker),
                    crons=PostgresCrons(database, waker),
                    wakes=PostgresWakes(database, url, waker.marks),
                )
            except BaseException as error:  # noqa: BLE001 - raised again below: a nursery would make a group of it
                raised = error
            nursery.cancel_scope.cancel()
        if raised is not None:
            raise raised
