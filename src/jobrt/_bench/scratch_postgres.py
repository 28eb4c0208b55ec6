"""What a PostgreSQL server is, and how a schema that was there for a while is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jobrt._storage.postgres.names import Schema
from jobrt._trio_psycopg.pool import call_deadline, open_connection
from jobrt.errors import StorageError

if TYPE_CHECKING:
    from jobrt._trio_psycopg import TrioConnection


_SECONDS: Final = 10.0
_SETTINGS: Final = ("server_version", "synchronous_commit", "fsync", "wal_level")


async def about(url: str) -> dict[str, str]:
    """Return what the server is, and how it commits.

    Raises:
        StorageError: it cannot be asked.

    """
    values = ", ".join(f"current_setting('{name}')" for name in _SETTINGS)
    conn = await open_connection(url, seconds=_SECONDS, prepare_threshold=None)
    try:
        with call_deadline(conn, _SECONDS):
            cursor = await conn.execute(f"select {values}".encode())
            (found,) = await cursor.fetchall()
    finally:
        conn.abort()
    return {"PostgreSQL": found[0], **dict(zip(_SETTINGS[1:], found[1:], strict=True))}


async def drop_schema(url: str, name: str, *, seconds: float) -> None:
    """Drop a schema and all that is in it, if it is there.

    Raises:
        StorageError: it cannot be dropped; says how to.

    """
    statement = f"drop schema if exists {Schema(name).quoted} cascade"
    try:
        conn = await open_connection(url, seconds=_SECONDS, prepare_threshold=None)
        try:
            await _execute(conn, statement, seconds=seconds)
        finally:
            conn.abort()
    except StorageError as error:
        raise StorageError(f"something is left behind ({error}); remove it with: {statement}") from error


async def _execute(conn: TrioConnection[Any], statement: str, *, seconds: float) -> None:
    with call_deadline(conn, seconds):
        await conn.execute(statement.encode())
