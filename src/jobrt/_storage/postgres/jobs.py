"""Jobs in PostgreSQL: enqueue, read, change and delete."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import attrs
import psycopg
import trio

from jobrt._core.job import JobRecord, NewJob
from jobrt._core.keep import PruneRule
from jobrt._core.stats import Bucket
from jobrt._core.text import clipped
from jobrt._core.where import Where
from jobrt._storage.contract import Inserted
from jobrt._storage.postgres.database import Database, retried
from jobrt._storage.postgres.encode import instant, interval, limit_text, numbers, texts
from jobrt._storage.postgres.filters import condition
from jobrt._storage.postgres.insert import drive, insert_one, insert_steps, one_statement
from jobrt._storage.postgres.prune import delete, prune
from jobrt._storage.postgres.query import by_id, listing
from jobrt._storage.postgres.rows import Row, job_record
from jobrt._storage.postgres.session import Session
from jobrt._storage.postgres.stats import stats
from jobrt._storage.postgres.waker import Waker
from jobrt._trio_psycopg.errors import translate
from jobrt.errors import InvalidFilter, StorageError


@attrs.frozen
class PostgresJobs:
    """Implementation of `JobStore`."""

    _database: Database
    _waker: Waker

    # ------------------------------------------------------------------ enqueue

    async def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]:
        if not jobs:
            await trio.lowlevel.checkpoint()
            return ()
        if conn is not None:
            return await self._insert_with(conn, jobs)
        if one_statement(jobs):
            inserted = await self._insert_one(jobs[0])
        else:
            inserted = await retried(partial(self._insert, jobs))
        if any(job.schedule_at for job in jobs):
            self._waker.watermarks.request_full()  # a due time in the past lies below the watermark
        return inserted

    async def _insert_one(self, job: NewJob) -> tuple[Inserted, ...]:
        """Store one job without a transaction block. Most calls are of this kind, and wait for no other's lock."""
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
            raise StorageError(
                f"conn is a {type(conn).__name__}: pass a psycopg connection that runs on Trio"
            )
        steps = insert_steps(self._database.schema, jobs, wake=self._waker.in_transaction)
        try:
            return await drive(Session(conn, self._database.schema), steps)
        except psycopg.Error as error:
            raise translate(error, "in the caller's transaction", lost=conn.closed) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Any]:
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
        async with self._database.session() as session:
            rows = await session.run(look.statement, **look.values)
        return job_record(rows[0]) if rows else None

    async def query(
        self,
        where: Where,
        *,
        order_by: str = "-id",
        limit: int | None = None,
        after: int | None = None,
        details: bool = True,
    ) -> tuple[JobRecord, ...]:
        schema = self._database.schema
        look = listing(schema, where, order_by=order_by, limit=limit, after=after, details=details)
        return tuple(map(job_record, await self._database.bulk_run(look.statement, **look.values)))

    async def count(self, where: Where, *, limit: int | None = None) -> int:
        number: int = (await self._run("jobs/count", where, limit=limit_text(limit)))[0][0]
        return number

    async def await_final(self, ids: Sequence[int]) -> Mapping[int, str | None]:
        known = numbers(ids)
        skipped = await self._database.fetch("jobs/await_final_flag", ids=known)
        states: dict[int, str] = dict(await self._database.fetch("jobs/await_final_states", ids=known))
        self._waker.due_again({queue for (queue,) in skipped})
        return {id: states.get(id) for id in ids}

    async def stats(self, *, since: datetime) -> tuple[Bucket, ...]:
        return await self._database.bulk(partial(stats, since=since))

    # ------------------------------------------------------------------ change

    async def cancel(self, where: Where, reason: str, *, limit: int | None = None) -> tuple[int, int]:
        rows = await self._run("jobs/cancel", where, reason=clipped(reason), limit=limit_text(limit))
        waiting, running = rows[0]
        if running:
            self._waker.control()
        return waiting, running

    async def rerun(self, where: Where, *, limit: int | None = None) -> int:
        number, queues = (await self._run("jobs/rerun", where, limit=limit_text(limit)))[0]
        self._waker.due_again(queues or ())
        return int(number)

    async def update(self, where: Where, changes: Mapping[str, Any]) -> int:
        sets = _assignments(changes)
        if not sets:
            await trio.lowlevel.checkpoint()
            return 0
        found = condition(where)
        statement = self._database.schema.statement("jobs/update", where=found.text, sets=sets)
        values = {f"set_{key}": _set(value) for key, value in changes.items()}
        number, queues = (await self._database.bulk_run(statement, **found.values, **values))[0]
        self._waker.due_again(queues or ())
        return int(number)

    async def delete(self, where: Where, *, limit: int | None = None) -> int:
        return await self._database.bulk(partial(delete, where=where, limit=limit))

    async def prune(self, rules: Sequence[PruneRule], *, limit: int = 10_000) -> int:
        return await self._database.bulk(partial(prune, rules=rules, limit=limit))

    async def _run(self, name: str, where: Where, **values: str | None) -> list[Row]:
        found = condition(where)
        statement = self._database.schema.statement(name, where=found.text)
        return await self._database.bulk_run(statement, **found.values, **values)


# What each key of `JobStore.update` sets; a due time also decides the state.
_SETS: Final = {
    "queue": "queue = :set_queue",
    "priority": "priority = :set_priority::integer",
    "max_attempts": "max_attempts = :set_max_attempts::integer",
    "args": "args = :set_args",
    "metadata": "metadata = :set_metadata",
    "tags": "tags = :set_tags::text[]",
    "context": "context = :set_context",
    "timeout": "timeout = :set_timeout::double precision",
}
_DUE: Final = (
    "schedule_at = {due}, state = (case when j.state = 'retryable' then 'retryable'"
    " when {due} > statement_timestamp() then 'scheduled' else 'available' end)::{{schema}}.job_state"
)
_DUE_BY: Final = {
    "schedule_at": ":set_schedule_at::timestamptz",
    "delay": "statement_timestamp() + :set_delay::interval",
}


def _assignments(changes: Mapping[str, Any]) -> str:
    """Return the SET clause of an update."""
    unknown = sorted(set(changes) - set(_SETS) - set(_DUE_BY))
    if unknown:
        raise InvalidFilter(
            f"update: {', '.join(unknown)} cannot be changed; use {', '.join([*_SETS, *_DUE_BY])}"
        )
    return " , ".join(_SETS[key] if key in _SETS else _DUE.format(due=_DUE_BY[key]) for key in changes)


def _set(value: Any) -> str | None:
    match value:
        case None | str():
            return value
        case datetime():
            return instant(value)
        case timedelta():
            return interval(value)
        case int() | float():
            return str(value)
        case _:
            return texts(value) if value else None
