"""Health of a PostgreSQL database: whether it can be written, and who holds locks on its tables."""

from collections.abc import Iterable
from functools import partial
from typing import Final

import attrs
import psycopg

from jobrt._core.health import QueueLoad, Vitals
from jobrt._core.keys import labelled
from jobrt._core.rates import FREE, Bucket
from jobrt._storage.postgres.database import Database
from jobrt._storage.postgres.encode import texts
from jobrt._storage.postgres.schema import narrow_encoding
from jobrt._storage.postgres.session import Session
from jobrt.errors import StorageError, StorageUnavailable

_LOCKED: Final = "55P03"  # lock_not_available
_CALL_SECONDS: Final = 10.0


@attrs.frozen
class PostgresHealth:
    """Implementation of `HealthStore`."""

    _database: Database

    async def try_write(self, *, seconds: float) -> None:
        try:
            async with (
                self._database.plain.call(seconds + _CALL_SECONDS) as conn,
                conn.transaction(force_rollback=True),
            ):
                await _write(Session(conn, self._database.schema), seconds=seconds)
        except StorageError as error:
            cause = error.__cause__
            if isinstance(cause, psycopg.errors.InsufficientPrivilege) and not await self._may_write():
                return  # the role of a reader: it cannot try, and that is no fault of the database
            if not (isinstance(cause, psycopg.Error) and cause.sqlstate == _LOCKED):
                raise
            holders = ", ".join(await self._database.bulk(_holders)) or "another session"
            message = f"the tables are locked for writing by {holders} for more than {seconds:g} s"
            raise StorageUnavailable(message) from error

    async def _may_write(self) -> bool:
        table = f"{self._database.schema.quoted}.job"
        return bool((await self._database.fetch("health/may_write", table=table))[0][0])

    async def vitals(self) -> Vitals:
        async with self._database.plain.call(_CALL_SECONDS) as conn:
            return Vitals(encoding=narrow_encoding(Session(conn, self._database.schema)))

    async def queue_load(self, queue: str, *, key: str | None, limit: int) -> QueueLoad:
        return await self._database.bulk(partial(_queue_load, queue=queue, key=key, limit=limit))


async def _write(session: Session, *, seconds: float) -> None:
    await session.fetch("health/write_patience", milliseconds=f"{seconds * 1000:.0f}")
    await session.fetch("health/write_lock")
    await session.fetch("health/write_row", name="jobrt doctor")


async def _holders(session: Session) -> list[str]:
    rows = await session.fetch("health/holders", schema=session.schema.quoted)
    return [
        f"session {pid} ({user}{', ' * bool(name)}{name}) since {age or 0:.0f} s"
        for pid, user, name, age in rows
    ]


async def _queue_load(session: Session, queue: str, *, key: str | None, limit: int) -> QueueLoad:
    root, _, path = (key or "").partition(".")
    field = {"root": root, "path": texts(path.split(".")) if path else None}
    running = await session.fetch("health/running", queue=queue, **field)
    due = await session.fetch("health/due", queue=queue, limit=str(limit), **field)
    counts = [{(name, job_key): count for name, job_key, count in rows} for rows in (running, due)]
    return QueueLoad(counts[0], counts[1], await _buckets(session, queue, key=key, due=counts[1]))


async def _buckets(
    session: Session, queue: str, *, key: str | None, due: Iterable[tuple[str, str]]
) -> dict[str | None, Bucket]:
    """Return the tokens of a queue and of the keys of due jobs; a hold of the queue is that of its bucket."""
    values: dict[str, str | None] = {"": None}
    if key is not None:
        values |= {labelled(key, value): value for _, value in due}
    found: dict[str | None, Bucket] = {}
    for name, at, parts, unit, until in await session.fetch(
        "health/buckets", queue=queue, keys=texts(values)
    ):
        if name is None:
            found[None] = attrs.evolve(found.get(None, FREE), held_until=until)
        else:
            found[values[name]] = Bucket(at, parts, unit, until)
    return found
