"""Jobs in PostgreSQL: enqueue, read, change and delete."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any, Final

import attrs
import psycopg
import trio

from jobrt._core.job import JobRecord, NewJob
from jobrt._core.keep import PruneRule
from jobrt._core.search import Needle
from jobrt._core.stats import Bucket, Ended
from jobrt._core.walks import Look, Place, Walk
from jobrt._core.where import Where, id_in
from jobrt._storage.apart import Aside, apart
from jobrt._storage.beats import Beats
from jobrt._storage.contract import Inserted, Records
from jobrt._storage.postgres.callers import (
    TRIO_KINDS,
    blocking_connection,
    insert_with,
    insert_with_async,
    on_asyncio,
)
from jobrt._storage.postgres.changes import cancel, count, count_each, found_by_polling, rerun, update
from jobrt._storage.postgres.database import Database, retried
from jobrt._storage.postgres.encode import bigints, numbers
from jobrt._storage.postgres.insert import flags_in_a_worker, insert_one, insert_steps, one_statement
from jobrt._storage.postgres.keys import changed
from jobrt._storage.postgres.look import look_steps
from jobrt._storage.postgres.names import Run
from jobrt._storage.postgres.prune import delete, prune
from jobrt._storage.postgres.query import by_id, listing, query_steps
from jobrt._storage.postgres.rows import Row, any_record, job_record
from jobrt._storage.postgres.stats import ended, stats
from jobrt._storage.postgres.steps import drive
from jobrt._storage.postgres.waker import Waker
from jobrt._storage.trio_only import refuse_asyncio
from jobrt._trio_psycopg.errors import translate

_schedule_at: Final = attrgetter("schedule_at")


@attrs.frozen
class PostgresJobs:
    """Implementation of `JobStore`."""

    _database: Database
    _waker: Waker
    _aside: Aside
    _beats: Beats

    # ------------------------------------------------------------------ enqueue

    async def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]:
        if not jobs:
            await trio.lowlevel.checkpoint()
            return ()
        if conn is not None:
            return await self._insert_with(conn, jobs)
        if one_statement(jobs):
            inserted = await retried(partial(self._insert_one, jobs[0]))
        else:
            inserted = await retried(partial(self._insert, jobs))
        if any(map(_schedule_at, jobs)):
            self._waker.watermarks.request_full()  # a due time in the past lies below the watermark
        return inserted

    async def _insert_one(self, job: NewJob) -> tuple[Inserted, ...]:
        """Store one job without a transaction block. Most calls are of this kind, and wait for no other's lock.

        The wake is sent as by `InsertWake`. With its objects, the call took a tenth longer.
        """
        schema, waker, keys = self._database.schema, self._waker, self._waker.keys
        async with self._database.session() as session:
            if not keys.fresh:
                await drive(session, keys.read(schema))
            channel = waker.channel_if_due(job.queue)
            try:
                run = insert_one(schema, job, channel=channel, keys=keys)
                rows = await session.run(run.statement, **run.values)
            except BaseException:
                waker.later([job.queue])
                raise
            if channel is None:
                waker.later([job.queue])
        return (Inserted(rows[0][0]),)

    async def _insert(self, jobs: Sequence[NewJob]) -> tuple[Inserted, ...]:
        with self._waker.insert() as wake:
            flags = flags_in_a_worker(jobs) if self._beats.counted else 0
            steps = insert_steps(self._database.schema, jobs, wake=wake, keys=self._waker.keys, flags=flags)
            async with self._database.session() as session, session.conn.transaction():
                return await drive(session, steps)

    async def _insert_with(self, conn: object, jobs: Sequence[NewJob]) -> tuple[Inserted, ...]:
        place: Any = {
            "schema": self._database.schema,
            "wake": self._waker.in_transaction,
            "keys": self._waker.keys,
        }
        if isinstance(conn, psycopg.AsyncConnection) and not on_asyncio(conn):
            return await insert_with_async(conn, jobs, **place)
        blocking = blocking_connection(conn, use=TRIO_KINDS)
        return await trio.to_thread.run_sync(partial(insert_with, blocking, jobs, **place))

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Any]:
        refuse_asyncio()
        in_block = False  # errors of the caller's block are raised unchanged
        async with self._database.plain.acquire() as conn:
            try:
                async with conn.transaction():
                    in_block = True
                    yield conn
                    in_block = False
            except psycopg.Error as error:
                if in_block:
                    raise
                raise translate(error, conn.where, lost=conn.closed) from error

    # ------------------------------------------------------------------ read

    async def get(self, job_id: int) -> JobRecord | None:
        look = by_id(self._database.schema, job_id)
        rows = await retried(partial(self._get, look))
        return job_record(rows[0]) if rows else None

    async def _get(self, look: Run) -> list[Row]:
        async with self._database.session() as session:
            return await session.run(look.statement, **look.values)

    async def query(
        self,
        where: Where,
        *,
        order_by: str = "-id",
        limit: int | None = None,
        after: int | None = None,
        details: bool = True,
    ) -> tuple[JobRecord, ...]:
        steps = partial(query_steps, self._database.schema, where, order_by=order_by)
        rows = await self._database.read(partial(steps, limit=limit, after=after, details=details))
        return tuple(map(job_record, rows))

    async def records(self, ids: Sequence[int], *, parent: int | None = None) -> Records:
        known = None if parent is None else str(parent)
        found = await self._database.fetch("jobs/records", ids=bigints(ids), parent=known)
        rows = {row[0]: row for row in found}
        others = [job_id for job_id in ids if job_id not in rows]
        if others:
            where = id_in(others)
            look = listing(self._database.schema, where, order_by="id", limit=None, after=None, details=True)
            rows |= {row[0]: row for row in await self._look(look)}
        return Records([rows[job_id] for job_id in ids if job_id in rows], any_record)

    async def count(self, where: Where, *, limit: int | None = None) -> int:
        ((number,),) = await self._look(count(self._database.schema, where, limit=limit))
        return int(number)

    async def await_final(self, ids: Sequence[int]) -> Mapping[int, str | None]:
        skipped = await apart(ids, self._flag, found_by_polling)
        rows = await self._database.fetch("jobs/await_final_states", ids=numbers(ids))
        states: dict[int, str] = dict(rows)
        self._waker.due_again({queue for part in skipped for (queue,) in part})
        return {id: states.get(id) for id in ids}

    async def _flag(self, ids: Sequence[int]) -> list[Row]:
        return await self._database.fetch("jobs/await_final_flag", ids=numbers(ids))

    async def stats(self, *, since: datetime) -> tuple[Bucket, ...]:
        return await self._database.bulk(partial(stats, since=since))

    async def ended(
        self, since: datetime, until: datetime, *, step: int, limit: int, deleted: bool = False
    ) -> Ended:
        count = partial(ended, since=since, until=until, step=step, limit=limit, deleted=deleted)
        return await self._database.bulk(count)

    async def count_each(self, wheres: Sequence[Where], *, limit: int) -> tuple[int, ...]:
        ((numbers,),) = await self._look(count_each(self._database.schema, wheres, limit=limit))
        return tuple(numbers)

    async def look(
        self,
        where: Where,
        walk: Walk,
        *,
        scan: int,
        limit: int,
        after: Place | None = None,
        needle: Needle | None = None,
    ) -> Look:
        steps = partial(look_steps, self._database.schema, where, walk)
        return await self._database.read(partial(steps, needle=needle, scan=scan, limit=limit, after=after))

    async def _look(self, run: Run) -> list[Row]:
        return await self._database.look(run.statement, **run.values)

    # ------------------------------------------------------------------ change

    async def cancel(self, where: Where, reason: str, *, limit: int | None = None) -> tuple[int, int]:
        run = cancel(self._database.schema, where, reason=reason, limit=limit)
        ((waiting, running),) = await self._run(run)
        if running:
            self._waker.control()
        return waiting, running

    async def rerun(self, where: Where, *, limit: int | None = None) -> int:
        return await self._change(rerun(self._database.schema, where, limit=limit))

    async def update(self, where: Where, changes: Mapping[str, Any]) -> int:
        if not changes:
            await trio.lowlevel.checkpoint()
            return 0
        return await self._change(update(self._database.schema, where, changes))

    async def _change(self, run: Run) -> int:
        schema = self._database.schema
        number, queues = await self._database.bulk(lambda session: drive(session, changed(schema, run)))
        self._waker.due_again(queues)
        return number

    async def delete(self, where: Where, *, limit: int | None = None) -> int:
        steps = partial(delete, self._database.schema, where, limit=limit)
        return await self._database.bulk(lambda session: drive(session, steps()))

    async def prune(self, rules: Sequence[PruneRule], *, limit: int = 10_000) -> int:
        return await prune(self._database.bulk, self._aside, rules=rules, limit=limit)

    async def _run(self, run: Run) -> list[Row]:
        return await self._database.bulk_run(run.statement, **run.values)
