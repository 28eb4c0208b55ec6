"""Jobs in SQLite: enqueue, read, change and delete."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from typing import Any

import attrs
import trio

from jobrt._core.job import JobRecord, NewJob
from jobrt._core.keep import PruneRule
from jobrt._core.search import Needle
from jobrt._core.stats import Bucket, Ended
from jobrt._core.walks import Look, Place, Walk, batches
from jobrt._core.where import Where
from jobrt._storage.apart import Aside
from jobrt._storage.contract import Inserted, Records
from jobrt._storage.sqlite.async_connection import AsyncConnection
from jobrt._storage.sqlite.callers import explained, insert_joined, insert_with, join
from jobrt._storage.sqlite.changes import cancel, delete, rerun, update
from jobrt._storage.sqlite.database import Database
from jobrt._storage.sqlite.insert import insert
from jobrt._storage.sqlite.look import look
from jobrt._storage.sqlite.prune import prune
from jobrt._storage.sqlite.query import (
    batch,
    count,
    count_each,
    get,
    made,
    query,
    rows_of,
    states,
    unfinished,
)
from jobrt._storage.sqlite.rows import dumps, micros
from jobrt._storage.sqlite.sockets import SOON
from jobrt._storage.sqlite.stats import ended, stats


@attrs.frozen
class SqliteJobs:
    """Implementation of `JobStore`."""

    _database: Database
    _aside: Aside

    async def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]:
        if conn is None:
            return await self._database.write(partial(insert, jobs=jobs))
        held = self._database.joined(conn)
        # A transaction opened by `hold` sends its own wakes. Others are noticed by the poll, after their commit.
        now = self._database.micros()
        with explained(self._database.path):
            if held is not None:
                return await held.conn.call(lambda _raw: insert_joined(held.tx, jobs))
            if isinstance(conn, AsyncConnection):  # of another app
                inserted = await conn.call(lambda raw: insert_joined(join(raw, now), jobs))
            else:
                await trio.lowlevel.checkpoint()
                inserted = insert_with(conn, jobs, now=now, file=self._database.path)
        self._database.hub.tell(SOON)
        return inserted

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        return self._database.hold()

    async def get(self, job_id: int) -> JobRecord | None:
        return await self._database.read(partial(get, job_id=job_id))

    async def query(
        self,
        where: Where,
        *,
        order_by: str = "-id",
        limit: int | None = None,
        after: int | None = None,
        details: bool = True,
    ) -> tuple[JobRecord, ...]:
        walk = batches(where, order_by)
        if walk is None:
            look = partial(query, where=where, order_by=order_by, limit=limit, after=after, details=details)
            return await self._database.read(look)
        found: list[JobRecord] = []
        while True:  # other calls read in between
            left = None if limit is None else limit - len(found)
            step = partial(batch, where=where, walk=walk, limit=left, after=after, details=details)
            page, after = await self._database.read(step)
            found += page
            if after is None or len(found) == limit:
                return tuple(found)

    async def records(self, ids: Sequence[int], *, parent: int | None = None) -> Records:  # noqa: ARG002 - its look-up costs little here
        return Records(await self._database.read(partial(rows_of, ids=ids)), made)

    async def count(self, where: Where, *, limit: int | None = None) -> int:
        return await self._database.read(partial(count, where=where, limit=limit))

    async def cancel(self, where: Where, reason: str, *, limit: int | None = None) -> tuple[int, int]:
        return await self._database.write(partial(cancel, where=where, reason=reason, limit=limit))

    async def rerun(self, where: Where, *, limit: int | None = None) -> int:
        return await self._database.write(partial(rerun, where=where, limit=limit))

    async def update(self, where: Where, changes: Mapping[str, Any]) -> int:
        return await self._database.write(partial(update, where=where, changes=changes))

    async def delete(self, where: Where, *, limit: int | None = None) -> int:
        return await self._database.write(partial(delete, where=where, limit=limit))

    async def prune(self, rules: Sequence[PruneRule], *, limit: int = 10_000) -> int:
        call = partial(prune, rules=rules, limit=limit, but=dumps(self._aside.but("prune")))
        pruned, refused = await self._database.write(call)
        self._aside.put(refused)
        return pruned

    async def await_final(self, ids: Sequence[int]) -> Mapping[int, str | None]:
        # First: a job that ended between the query and this call would wake no waiter.
        self._database.hub.expect(ids)
        found = await self._database.read(partial(states, ids=ids))
        self._database.hub.forget(set(ids).difference(unfinished(found)))
        return found

    async def stats(self, *, since: datetime) -> tuple[Bucket, ...]:
        return await self._database.read(partial(stats, since=micros(since)))

    async def ended(
        self, since: datetime, until: datetime, *, step: int, limit: int, deleted: bool = False
    ) -> Ended:
        count = partial(ended, since=micros(since), until=micros(until), step=step * 1_000_000)
        return await self._database.read(partial(count, limit=limit, deleted=deleted))

    async def count_each(self, wheres: Sequence[Where], *, limit: int) -> tuple[int, ...]:
        return await self._database.read(partial(count_each, wheres=wheres, limit=limit))

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
        call = partial(look, where=where, walk=walk, needle=needle, scan=scan, limit=limit, after=after)
        return await self._database.read(call)
