"""The schema in PostgreSQL: which migrations it has, and the database's clock."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import Final

import attrs
import psycopg
import trio

from jobrt._core.database_url import migrate_remedy
from jobrt._storage.postgres.database import Database
from jobrt._storage.postgres.names import Schema
from jobrt._storage.postgres.session import Session
from jobrt._storage.sql_files import SchemaStatus, load_migrations, pending, status, unmigrated
from jobrt._trio_psycopg.pool import ENCODING
from jobrt.errors import StorageUnavailable

_MIGRATIONS: Final = load_migrations("jobrt._storage.postgres")

_READ_SECONDS: Final = 30.0
_MIGRATE_SECONDS: Final = 600.0
"""Seconds that migrating may take, including the wait for other processes that migrate."""

_logger = logging.getLogger("jobrt")

_LOCK_SECONDS: Final = 0.5
"""Seconds that a migration waits for a lock. Meanwhile everybody who uses the table waits behind it."""

_PAUSES: Final = (0.5, 1.0, 2.0, 4.0)
"""Seconds between tries to get the locks; the last one is repeated. In the pauses the others go on."""


@attrs.frozen
class PostgresSchema:
    """Implementation of `SchemaStore`."""

    _database: Database

    async def status(self) -> SchemaStatus:
        async with self._session(_READ_SECONDS) as session:
            return status(_MIGRATIONS, await _applied(session))

    async def migrate(self, report: Callable[[str], None] | None = None) -> tuple[str, ...]:
        done: list[str] = []
        async with self._session(_MIGRATE_SECONDS) as session:
            _warn_of_encoding(session)
            while name := await _migrate_next(session, report):
                done.append(name)
        return tuple(done)

    async def check(self) -> None:
        async with self._session(_READ_SECONDS) as session:
            _warn_of_encoding(session)
            applied = await _applied(session)
        remedy = migrate_remedy(self._database.plain.conninfo, self._database.schema.name)
        error = unmigrated(_MIGRATIONS, applied, where=_place(session), remedy=remedy)
        if error is not None:
            raise error

    async def now(self) -> datetime:
        moment: datetime = (await self._database.fetch("schema/now"))[0][0]
        return moment.replace(tzinfo=UTC)

    @asynccontextmanager
    async def _session(self, seconds: float) -> AsyncGenerator[Session]:
        async with self._database.plain.call(seconds) as conn:
            yield Session(conn, self._database.schema)


def narrow_encoding(session: Session) -> str | None:
    """Return the encoding of the database if it cannot store every text."""
    encoding = session.conn.info.parameter_status("server_encoding")  # None if a pooler does not pass it on
    return encoding if encoding not in {ENCODING, None} else None


def _warn_of_encoding(session: Session) -> None:
    encoding = narrow_encoding(session)
    if encoding is not None:
        _logger.warning(
            "the encoding of the database is %s: jobs and outcomes with other characters are refused;"
            " use a database that was created with ENCODING 'UTF8'",
            encoding,
        )


def _place(session: Session) -> str:
    return f"the schema {session.schema.name!r}"


async def _applied(session: Session) -> tuple[str, ...]:
    """Return the applied migrations; none if the schema does not exist."""
    ((exists,),) = await session.fetch("schema/status_exists", table=f"{session.schema.quoted}.migration")
    return tuple(name for (name,) in await session.fetch("schema/status_applied")) if exists else ()


async def _migrate_next(session: Session, report: Callable[[str], None] | None) -> str | None:
    """Apply the next migration, or return None; give way to others while they hold the locks."""
    deadline = trio.current_time() + _MIGRATE_SECONDS - _READ_SECONDS
    for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
        try:
            return await _try_next(session)
        except psycopg.errors.LockNotAvailable as error:
            waiting = (
                f"{_place(session)} is used by {await _holder(session)}, which a migration has to wait for"
            )
            if trio.current_time() >= deadline:
                raise StorageUnavailable(f"{waiting}: end that transaction, and migrate again") from error
        if report is not None:
            report(f"{waiting}: trying again in {pause:g} s")
        await trio.sleep(pause)
    raise AssertionError  # pragma: no cover - the pauses never end


async def _holder(session: Session) -> str:
    """Describe the oldest transaction that uses tables of the schema."""
    rows = await session.fetch("schema/migrate_holder", schema=session.schema.name)
    if not rows:
        return "another transaction"
    pid, user, program, seconds = rows[0]
    name = f" ({program})" if program else ""
    return f"a transaction of {user}, process {pid}{name}, open for {seconds:.0f} s"


async def _try_next(session: Session) -> str | None:
    async with session.conn.transaction():
        await session.fetch("schema/migrate_lock", name=session.schema.name)
        missing = pending(_MIGRATIONS, await _applied(session), where=_place(session))
        if not missing:
            return None
        await session.fetch("schema/migrate_lock_timeout", milliseconds=str(int(_LOCK_SECONDS * 1000)))
        if not await session.fetch("schema/migrate_schema_exists", name=session.schema.name):
            await session.fetch("schema/migrate_schema")
        await session.fetch("schema/migrate_table")
        await session.conn.execute(session.schema.fill(missing[0].sql).encode())
        await session.fetch("schema/migrate_done", name=missing[0].name)
        return missing[0].name


def migration_sql(schema: str = "jobrt") -> str:
    """Return the SQL that `migrate` runs in an empty database, for people who apply migrations themselves."""
    names = Schema(schema)
    made = [f"{names.statement(f'schema/migrate_{part}').text.decode()};\n" for part in ("schema", "table")]
    for migration in _MIGRATIONS:
        record = f"insert into {names.quoted}.migration (name) values ('{migration.name}');\n"  # noqa: S608 - our names
        made += [f"\n-- {migration.name}\n", names.fill(migration.sql), record]
    return "".join(["begin;\n", *made, "commit;\n"])
