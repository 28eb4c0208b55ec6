"""Bring a schema up to date, with any number of processes doing so at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobrt._storage.postgres.schema import CREATE_SCHEMA, CREATE_TABLE, MIGRATIONS, migration_text
from jobrt._storage.sql_files import pending, status, unmigrated

if TYPE_CHECKING:
    from jobrt._storage.contract import SchemaStatus
    from jobrt._storage.postgres.database import Database
    from jobrt._trio_psycopg import TrioConnection

__all__ = ["check", "look", "migrate"]

_SECONDS: Final = 600.0
"""Seconds that migrating may take, the wait for others who do included."""


_NAMES: Final = "select name from {schema}.migration order by name"
_DONE: Final = "insert into {schema}.migration (name) values (%s)"


def _where(database: Database) -> str:
    return f"the schema {database.schema.name!r}"


async def _applied(conn: TrioConnection[tuple[object, ...]], database: Database) -> tuple[str, ...]:
    """Return the migrations that the schema has; none if there is no such schema."""
    schema = database.schema
    cursor = await conn.execute("select to_regclass(%s) is not null", [f"{schema.quoted}.migration"])
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return ()
    cursor = await conn.execute(schema.fill(_NAMES).encode())
    return tuple(str(name) for (name,) in await cursor.fetchall())


async def look(database: Database) -> SchemaStatus:
    """Say which migrations are there."""
    async with database.plain.call(30.0) as conn:
        return status(MIGRATIONS, await _applied(conn, database))


async def check(database: Database) -> None:
    """Raise `SchemaError` unless the schema is exactly ours."""
    async with database.plain.call(30.0) as conn:
        applied = await _applied(conn, database)
    error = unmigrated(MIGRATIONS, applied, where=_where(database))
    if error is not None:
        raise error


async def migrate(database: Database) -> tuple[str, ...]:
    """Apply what is pending, each migration in a transaction, and return the names."""
    done: list[str] = []
    async with database.plain.call(_SECONDS) as conn:
        while name := await _next(conn, database):
            done.append(name)
    return tuple(done)


async def _next(conn: TrioConnection[tuple[object, ...]], database: Database) -> str | None:
    """Apply the next migration, or return None. Who comes at the same time waits, and then finds it done."""
    schema = database.schema
    async with conn.transaction():
        await conn.execute(
            "select pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"jobrt migrates {schema.name}"]
        )
        todo = pending(MIGRATIONS, await _applied(conn, database), where=_where(database))
        if not todo:
            return None
        cursor = await conn.execute("select 1 from pg_namespace where nspname = %s", [schema.name])
        if (
            await cursor.fetchone() is None
        ):  # `if not exists` would need the right to create schemas all the same
            await conn.execute(schema.fill(CREATE_SCHEMA).encode())
        await conn.execute(schema.fill(CREATE_TABLE).encode())
        await conn.execute(migration_text(schema, todo[0]).encode())
        await conn.execute(schema.fill(_DONE).encode(), [todo[0].name])
        return todo[0].name
