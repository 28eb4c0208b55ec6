"""Jobs in SQLite: enqueue, read, change and delete."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from typing import Any, Final

import attrs
import trio

from jobrt._core.job import JobRecord, NewJob
from jobrt._core.keep import PruneRule
from jobrt._core.stats import Bucket
from jobrt._core.text import clipped
from jobrt._core.where import Where
from jobrt._storage.contract import Inserted
from jobrt._storage.sqlite.async_connection import AsyncConnection
from jobrt._storage.sqlite.database import Database
from jobrt._storage.sqlite.dependencies import release_parents
from jobrt._storage.sqlite.filters import Condition, condition
from jobrt._storage.sqlite.insert import insert, insert_joined, join
from jobrt._storage.sqlite.prune import prune, remove
from jobrt._storage.sqlite.query import count, get, query, select, states, unfinished
from jobrt._storage.sqlite.rows import FAR, dumps, later, micros
from jobrt._storage.sqlite.states import IS_EXECUTING, IS_FINAL, IS_WAITING, RESCHEDULED
from jobrt._storage.sqlite.stats import stats
from jobrt._storage.sqlite.transaction import SQL, Transaction
from jobrt.errors import InvalidFilter


@attrs.frozen
class SqliteJobs:
    """Implementation of `JobStore`."""

    _database: Database

    async def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]:
        if conn is None:
            return await self._database.write(partial(insert, jobs=jobs))
        held = self._database.joined(conn)
        if held is not None:
            return await held.conn.call(lambda _raw: insert_joined(held.tx, jobs))
        # A transaction opened by `hold` sends its own wakes. Others are noticed by the poll, after their commit.
        now = self._database.micros()
        if isinstance(conn, AsyncConnection):  # of another app
            return await conn.call(lambda raw: insert_joined(join(raw, now), jobs))
        await trio.lowlevel.checkpoint()
        return insert_joined(join(conn, now), jobs)

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
        look = partial(query, where=where, order_by=order_by, limit=limit, after=after, details=details)
        return await self._database.read(look)

    async def count(self, where: Where, *, limit: int | None = None) -> int:
        return await self._database.read(partial(count, where=where, limit=limit))

    async def cancel(self, where: Where, reason: str, *, limit: int | None = None) -> tuple[int, int]:
        return await self._database.write(partial(_cancel, where=where, reason=reason, limit=limit))

    async def rerun(self, where: Where, *, limit: int | None = None) -> int:
        return await self._database.write(partial(_rerun, where=where, limit=limit))

    async def update(self, where: Where, changes: Mapping[str, Any]) -> int:
        return await self._database.write(partial(_update, where=where, changes=changes))

    async def delete(self, where: Where, *, limit: int | None = None) -> int:
        return await self._database.write(partial(_delete, where=where, limit=limit))

    async def prune(self, rules: Sequence[PruneRule], *, limit: int = 10_000) -> int:
        return await self._database.write(partial(prune, rules=rules, limit=limit))

    async def await_final(self, ids: Sequence[int]) -> Mapping[int, str | None]:
        # First: a job that ended between the query and this call would wake no waiter.
        self._database.hub.expect(ids)
        found = await self._database.read(partial(states, ids=ids))
        self._database.hub.forget(set(ids).difference(unfinished(found)))
        return found

    async def stats(self, *, since: datetime) -> tuple[Bucket, ...]:
        return await self._database.read(partial(stats, since=micros(since)))


def _cancel(tx: Transaction, where: Where, *, reason: str, limit: int | None) -> tuple[int, int]:
    ids = _chosen(tx, where, f"{IS_WAITING} OR ({IS_EXECUTING} AND cancel_reason IS NULL)", limit=limit)
    new = {"ids": dumps(ids), "reason": clipped(reason), "now": tx.now}
    requested = tx.run(SQL["jobs/cancel_running"], new)
    cancelled = tx.rows(SQL["jobs/cancel_waiting"], new)
    release_parents(tx, [job_id for (job_id,) in cancelled])
    tx.control = tx.control or requested > 0
    return len(cancelled), requested


def _rerun(tx: Transaction, where: Where, *, limit: int | None) -> int:
    ids = dumps(_chosen(tx, where, IS_FINAL, limit=limit))
    tx.run(SQL["jobs/rerun_remember"], (ids,))
    tx.run(SQL["jobs/rerun_forget"], (ids,))
    queues = tx.rows(SQL["jobs/rerun"], {"ids": ids, "now": tx.now})
    tx.queues.update(queue for (queue,) in queues)
    return len(queues)


def _update(tx: Transaction, where: Where, changes: Mapping[str, Any]) -> int:
    sets, values = _assignments(tx, changes)
    ids = _chosen(tx, where, IS_WAITING, limit=None)
    if not sets:
        return len(ids)
    sql = f"UPDATE jobrt_job SET {sets} WHERE id IN (SELECT value FROM json_each(:ids)) RETURNING queue"  # noqa: S608 - fields checked above
    queues = tx.rows(sql, {**values, "ids": dumps(ids), "now": tx.now})
    tx.queues.update(queue for (queue,) in queues)
    return len(ids)


_PLAIN: Final = ("queue", "priority", "max_attempts", "args", "metadata", "context", "timeout")


def _assignments(tx: Transaction, changes: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the SET clause of an update, and its parameters."""
    sets: list[str] = []
    values: dict[str, Any] = {}
    for key, value in changes.items():
        if key in _PLAIN:
            sets.append(f"{key} = :{key}")
            values[key] = value
        elif key == "tags":
            sets.append("tags = :tags")
            values["tags"] = dumps(list(value))
        elif key in {"schedule_at", "delay"}:
            sets.append(RESCHEDULED)
            due = later(tx.now, value) if key == "delay" else micros(value)
            values["schedule_at"] = min(due, FAR - 1)
        else:
            fields = ", ".join((*_PLAIN, "tags", "schedule_at", "delay"))
            raise InvalidFilter(f"update: {key} cannot be changed; use {fields}")
    return ", ".join(sets), values


def _delete(tx: Transaction, where: Where, *, limit: int | None) -> int:
    ids = _chosen(tx, where, "1", limit=limit)
    remove(tx, ids)
    return len(ids)


def _chosen(tx: Transaction, where: Where, also: str, *, limit: int | None) -> list[int]:
    """Return the ids of jobs that match and satisfy the SQL condition `also`."""
    wanted = condition(where, tx.now)
    return select(tx, Condition(f"({wanted.sql}) AND ({also})", wanted.values), limit=limit)
