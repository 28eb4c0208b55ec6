"""Insertion of jobs with a connection of the caller's, as part of its transaction."""

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final

from jobrt._core.job import NewJob
from jobrt._storage.brought import asyncio_driver_connection, driver_connection, is_django, unknown_connection
from jobrt._storage.contract import Inserted
from jobrt._storage.sqlite.connection import rolled_back, translated
from jobrt._storage.sqlite.insert import insert
from jobrt._storage.sqlite.transaction import SQL, Transaction, plain_texts
from jobrt.errors import StorageError

_CALLER_CONN: Final = "the connection given as conn"
_KINDS: Final = (
    "a sqlite3.Connection to the database file of the jobs, an SQLAlchemy Connection or Session over sqlite3, or"
    " Django's connection"
)
_ASYNCIO_KINDS: Final = f"{_KINDS}, or aiosqlite's or SQLAlchemy's AsyncConnection or AsyncSession over it"


def insert_with(conn: object, jobs: Sequence[NewJob], *, now: int, file: str) -> tuple[Inserted, ...]:
    """Insert jobs in the caller's transaction. Other processes notice the caller's commit when they poll.

    `file` is the file of the jobs, for messages.

    Raises:
        StorageError: this is not a connection of sqlite3, or it is in autocommit mode without a transaction.
        StorageUnavailable: another connection holds the write lock for longer than the connection's timeout.

    """
    raw = conn if isinstance(conn, sqlite3.Connection) else driver_connection(conn)
    if not isinstance(raw, sqlite3.Connection):
        raise unknown_connection(conn, raw, use=_KINDS)
    with explained(file):
        return _insert(raw, jobs, now=now, commit=is_django(conn))


async def insert_with_asyncio(
    conn: object, jobs: Sequence[NewJob], *, now: int, file: str
) -> tuple[Inserted, ...]:
    """Insert jobs as `insert_with` does, also with connections of asyncio."""
    driver = conn if isinstance(conn, sqlite3.Connection) else await asyncio_driver_connection(conn)
    if isinstance(driver, sqlite3.Connection):
        return insert_with(conn, jobs, now=now, file=file)
    # Each function that aiosqlite documents runs one statement, and a batch of jobs needs several.
    thread: Any = driver
    if not (isinstance(getattr(thread, "_conn", None), sqlite3.Connection) and hasattr(thread, "_execute")):
        raise unknown_connection(conn, driver, use=_ASYNCIO_KINDS)
    call = partial(_insert, thread._conn, jobs, now=now, commit=False)  # noqa: SLF001 - see above
    with explained(file):
        inserted: tuple[Inserted, ...] = await thread._execute(call)  # noqa: SLF001 - see above
    return inserted


def _insert(
    raw: sqlite3.Connection, jobs: Sequence[NewJob], *, now: int, commit: bool
) -> tuple[Inserted, ...]:
    """Insert jobs, and commit at once with `commit` and no open transaction."""
    if not commit or raw.in_transaction or raw.isolation_level is not None:
        return insert_joined(join(raw, now), jobs)
    with rolled_back(raw):
        raw.execute("BEGIN IMMEDIATE")
        inserted = insert_joined(join(raw, now), jobs)
        raw.execute("COMMIT")
    return inserted


def explained(file: str) -> AbstractContextManager[None]:
    """Return a context manager that converts errors of a caller's connection; `file` is that of the jobs."""
    return translated(_CALLER_CONN, file=file)


def insert_joined(tx: Transaction, jobs: Sequence[NewJob]) -> tuple[Inserted, ...]:
    """Insert all of the jobs, or none if one fails; the caller's own writes are kept."""
    with plain_texts(tx.connection):
        tx.run("SAVEPOINT jobrt_insert")
        try:
            tx.run(SQL["jobs/insert_lock"])
            return insert(tx, jobs)
        except BaseException:
            tx.run("ROLLBACK TO jobrt_insert")
            raise
        finally:
            tx.run("RELEASE jobrt_insert")


def join(connection: sqlite3.Connection, now: int) -> Transaction:
    """Return a `Transaction` for the caller's open transaction.

    If the connection opens transactions implicitly (sqlite3's default), one is opened here.

    Raises:
        StorageError: the connection is in autocommit mode without a transaction.
        StorageUnavailable: another connection holds the write lock for longer than the connection's timeout.

    """
    if not connection.in_transaction:
        autocommit = getattr(connection, "autocommit", None) is True  # new in Python 3.12
        if autocommit or connection.isolation_level is None:
            raise StorageError("conn has no open transaction: execute BEGIN IMMEDIATE first")
        connection.execute("BEGIN IMMEDIATE")
    return Transaction(connection, now)
