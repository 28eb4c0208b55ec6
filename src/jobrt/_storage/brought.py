"""Connections that callers bring as ``conn``: a driver's own, or an object of SQLAlchemy or Django that has one inside.

They are recognised by attributes that their documentation names, so none of these packages is imported. What has a
transaction of its own begins it: SQLAlchemy's ``commit`` would do nothing otherwise, and the insert would be lost.
"""

from inspect import iscoroutinefunction
from typing import Any

from jobrt.errors import StorageError


def is_django(conn: Any) -> bool:
    """Return whether this is a connection of Django, whose autocommit mode commits each call."""
    return callable(getattr(conn, "ensure_connection", None)) and hasattr(conn, "in_atomic_block")


def driver_connection(conn: Any) -> Any:
    """Return the driver's connection inside of SQLAlchemy's or Django's, and any other object as it is."""
    if hasattr(conn, "get_raw_connection") or _is_asyncio_session(conn):
        return conn
    if is_django(conn):
        conn.ensure_connection()
        return conn.connection
    inner: Any = getattr(conn, "connection", None)
    if callable(inner) and hasattr(conn, "get_bind") and not isinstance(conn, type):
        conn = inner()  # of a session
        inner = getattr(conn, "connection", None)
    driver = getattr(inner, "driver_connection", None)
    if driver is None:
        return conn
    if not conn.in_transaction():
        conn.begin()
    return driver


async def asyncio_driver_connection(conn: Any) -> Any:
    """Return what `driver_connection` does, also for SQLAlchemy's ``AsyncConnection`` and ``AsyncSession``."""
    if _is_asyncio_session(conn):
        conn = await conn.connection()
    if not hasattr(conn, "get_raw_connection") or isinstance(conn, type):
        return driver_connection(conn)
    if not conn.in_transaction():
        await conn.begin()
    return (await conn.get_raw_connection()).driver_connection


def _is_asyncio_session(conn: Any) -> bool:
    # `AsyncConnection` raises an error of its own for this attribute.
    if hasattr(conn, "get_raw_connection") or isinstance(conn, type):
        return False
    return iscoroutinefunction(getattr(conn, "connection", None))


def unknown_connection(conn: object, driver: object, *, use: str) -> StorageError:
    """Return the error for a connection of another kind; `driver` is the one inside, and `use` names the kinds."""
    inside = "" if driver is conn else f" over a {_kind(driver)}"
    return StorageError(f"conn is of type {_kind(conn)}{inside}: pass {use}")


def _kind(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
