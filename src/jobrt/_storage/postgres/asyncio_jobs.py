"""Jobs in PostgreSQL for asyncio: the statements of the other clients, over psycopg driven by asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Final, TypeVar

import psycopg

from jobrt._core.job import JobRecord, NewJob
from jobrt._core.search import Needle
from jobrt._core.stream import StreamPage
from jobrt._core.walks import Look, Place, Walk, batches
from jobrt._core.where import Where
from jobrt._storage.apart import apart
from jobrt._storage.contract import Inserted, Wake
from jobrt._storage.postgres.asyncio_pool import AsyncioPool
from jobrt._storage.postgres.callers import asyncio_connection, insert_with, insert_with_async
from jobrt._storage.postgres.changes import (
    cancel_steps,
    count,
    flag_steps,
    found_by_polling,
    make_due_steps,
    rerun,
    states_run,
    update,
)
from jobrt._storage.postgres.database import repeated
from jobrt._storage.postgres.insert import insert_steps, one_statement
from jobrt._storage.postgres.keys import KnownKeys
from jobrt._storage.postgres.look import look_steps
from jobrt._storage.postgres.messages import send_steps
from jobrt._storage.postgres.names import Run, Schema
from jobrt._storage.postgres.prune import delete
from jobrt._storage.postgres.query import by_id, listing, query_steps
from jobrt._storage.postgres.rows import Row, job_record
from jobrt._storage.postgres.session import Session
from jobrt._storage.postgres.steps import Steps, drive
from jobrt._storage.postgres.streams import follow_steps, page_of, read_run
from jobrt._storage.postgres.wakes import stream_wake
from jobrt._trio_psycopg.errors import translate
from jobrt.errors import StorageUnavailable

T = TypeVar("T")

_PING_EVERY: Final = 10.0
"""Seconds. A connection whose other end vanished stays open for hours; only a query detects it."""


class AsyncioPostgres:
    """Implementation of `AsyncioJobs`."""

    longest_pause = 2.0

    def __init__(self, url: str, schema: str, *, listen: bool) -> None:
        self._schema = Schema(schema)
        self._channel = self._schema.channel if listen else None
        self._keys = KnownKeys()
        self._pool = AsyncioPool(url, 5 if listen else None)

    async def open(self) -> None:
        """Do nothing: the first call connects."""

    async def close(self) -> None:
        """Close all connections; those in use, when their calls have ended."""
        await self._pool.close()

    async def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]:
        if conn is not None:
            return await self._insert_with(conn, jobs)
        return await repeated(partial(self._insert, jobs))

    async def _insert(self, jobs: Sequence[NewJob]) -> tuple[Inserted, ...]:
        steps = insert_steps(self._schema, jobs, wake=self._wake, keys=self._keys)
        async with self._pool.lend() as conn, nullcontext() if one_statement(jobs) else conn.transaction():
            return await drive(Session(conn, self._schema), steps)

    async def _insert_with(self, conn: object, jobs: Sequence[NewJob]) -> tuple[Inserted, ...]:
        brought = await asyncio_connection(conn)
        place: Any = {"schema": self._schema, "wake": self._wake, "keys": self._keys}
        if isinstance(brought, psycopg.AsyncConnection):
            return await insert_with_async(brought, jobs, **place)
        return await asyncio.to_thread(insert_with, brought, jobs, **place)

    async def get(self, job_id: int) -> JobRecord | None:
        rows = await self._read(by_id(self._schema, job_id))
        return job_record(rows[0]) if rows else None

    async def query(
        self, where: Where, *, order_by: str, limit: int | None, after: int | None, details: bool
    ) -> tuple[JobRecord, ...]:
        query: Any = {"order_by": order_by, "limit": limit, "after": after, "details": details}
        if batches(where, order_by) is None:
            rows = await self._read(listing(self._schema, where, **query))
        else:
            rows = await self._transact(partial(query_steps, self._schema, where, **query))
        return tuple(map(job_record, rows))

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
        steps = partial(look_steps, self._schema, where, walk, needle=needle)
        return await self._transact(partial(steps, scan=scan, limit=limit, after=after))

    async def count(self, where: Where, *, limit: int | None = None) -> int:
        ((number,),) = await self._read(count(self._schema, where, limit=limit))
        return int(number)

    async def await_final(self, ids: Sequence[int]) -> Mapping[int, str | None]:
        async def flag(part: Sequence[int]) -> None:
            await self._transact(partial(flag_steps, self._schema, part, channel=self._channel))

        await apart(ids, flag, found_by_polling)
        states: dict[int, str] = dict(await self._read(states_run(self._schema, ids)))
        return {id: states.get(id) for id in ids}

    async def cancel(self, where: Where, reason: str) -> tuple[int, int]:
        return await self._transact(
            partial(cancel_steps, self._schema, where, reason=reason, channel=self._channel)
        )

    async def rerun(self, where: Where) -> int:
        return await self._make_due(rerun(self._schema, where, limit=None))

    async def update(self, where: Where, changes: Mapping[str, Any]) -> int:
        return await self._make_due(update(self._schema, where, changes))

    async def delete(self, where: Where, *, limit: int | None = None) -> int:
        return await self._transact(partial(delete, self._schema, where, limit=limit))

    async def send(self, job_id: int, name: str, value: str, *, key: str | None = None) -> bool:
        return await self._transact(
            partial(send_steps, self._schema, job_id, name=name, value=value, key=key)
        )

    async def read_stream(self, job_id: int, after: int, *, wake: bool = False) -> StreamPage | None:
        if wake and self._channel is not None:
            await self._transact(partial(follow_steps, self._schema, job_id, channel=self._channel))
        return page_of(await self._read(read_run(self._schema, job_id, after)))

    async def listen(self, wake: Callable[[], None], news: Callable[[Wake], None] | None = None) -> None:
        if self._channel is None:
            return
        conn = await self._pool.open_connection()
        try:
            await self._listen(conn, self._channel, wake=wake, news=news)
        except psycopg.Error as error:
            raise translate(error, self._pool.place, lost=conn.closed) from error
        finally:
            await conn.close()

    async def _listen(
        self,
        conn: psycopg.AsyncConnection[Any],
        channel: str,
        *,
        wake: Callable[[], None],
        news: Callable[[Wake], None] | None,
    ) -> None:
        quoted = channel.replace('"', '""')
        await conn.execute(f'listen "{quoted}"'.encode())
        wake()  # a job may have ended before
        while True:
            async for notification in conn.notifies(timeout=_PING_EVERY):
                if notification.payload == "f":
                    wake()
                elif news is not None and notification.payload.startswith("s:"):
                    news(stream_wake(notification.payload))
            cursor = await conn.execute("select count(*) from pg_listening_channels()")
            if await cursor.fetchone() != (1,):
                raise StorageUnavailable(f"{self._pool.place}: this connection no longer listens")

    def _wake(self, _queue: str) -> str | None:
        return self._channel

    async def _make_due(self, run: Run) -> int:
        return await self._transact(partial(make_due_steps, self._schema, run, channel=self._channel))

    async def _read(self, run: Run) -> list[Row]:
        """Run a statement that only reads."""
        return await repeated(partial(self._try_read, run))

    async def _try_read(self, run: Run) -> list[Row]:
        async with self._pool.lend() as conn:
            return await Session(conn, self._schema).run(run.statement, **run.values)

    async def _transact(self, steps: Callable[[], Steps[T]]) -> T:
        """Run steps in a transaction."""
        attempt: Callable[[], Awaitable[T]] = partial(self._try, steps)
        return await repeated(attempt)

    async def _try(self, steps: Callable[[], Steps[T]]) -> T:
        async with self._pool.lend() as conn, conn.transaction():
            return await drive(Session(conn, self._schema), steps())
