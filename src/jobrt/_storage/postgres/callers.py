"""Insertion of jobs with a connection of the caller's, as part of its transaction."""

from collections.abc import Generator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, TypeGuard

import psycopg
from psycopg import pq

from jobrt._core.job import NewJob
from jobrt._storage.brought import asyncio_driver_connection, driver_connection, unknown_connection
from jobrt._storage.contract import Inserted
from jobrt._storage.postgres.insert import Wake, insert_steps
from jobrt._storage.postgres.keys import KnownKeys
from jobrt._storage.postgres.names import Schema
from jobrt._storage.postgres.session import BlockingSession, Session
from jobrt._storage.postgres.steps import drive, drive_sync
from jobrt._trio_psycopg.errors import translate, unsendable

KINDS: Final = (
    "a psycopg.Connection, an SQLAlchemy Connection or Session over psycopg, or Django's connection"
)
TRIO_KINDS: Final = f"the connection of jobs.transaction(), {KINDS}"
ASYNCIO_KINDS: Final = (
    f"a psycopg.AsyncConnection, an SQLAlchemy AsyncConnection or AsyncSession over psycopg, {KINDS}"
)

_PLACE: Final = "in the caller's transaction"


def blocking_connection(conn: object, *, use: str = KINDS) -> psycopg.Connection[Any]:
    """Return the connection of plain psycopg that a caller has brought; `use` names the kinds that are possible.

    Raises:
        StorageError: there is none.

    """
    driver = conn if isinstance(conn, psycopg.Connection) else driver_connection(conn)
    if isinstance(driver, psycopg.Connection):
        return driver
    raise unknown_connection(conn, driver, use=use)


async def asyncio_connection(conn: object) -> psycopg.Connection[Any] | psycopg.AsyncConnection[Any]:
    """Return the connection of psycopg that a caller in asyncio has brought.

    Raises:
        StorageError: there is none, or it is driven by Trio.

    """
    driver: Any = conn
    if not isinstance(conn, psycopg.Connection | psycopg.AsyncConnection):
        driver = await asyncio_driver_connection(conn)
    if isinstance(driver, psycopg.Connection) or on_asyncio(driver):
        return driver
    raise unknown_connection(conn, driver, use=ASYNCIO_KINDS)


def on_asyncio(conn: object) -> TypeGuard[psycopg.AsyncConnection[Any]]:
    """Return whether a connection of psycopg waits in asyncio, as it does unless a subclass waits elsewhere."""
    return isinstance(conn, psycopg.AsyncConnection) and type(conn).wait is psycopg.AsyncConnection.wait


def insert_with(
    conn: psycopg.Connection[Any],
    jobs: Sequence[NewJob],
    *,
    schema: Schema,
    wake: Wake,
    keys: KnownKeys | None = None,
) -> tuple[Inserted, ...]:
    """Insert jobs over plain psycopg. In autocommit mode without a transaction, they are committed together."""
    with _refused(conn):
        whole: AbstractContextManager[Any] = conn.transaction() if _commits(conn) else nullcontext()
        with whole:
            return drive_sync(BlockingSession(conn), insert_steps(schema, jobs, wake=wake, keys=keys))


async def insert_with_async(
    conn: psycopg.AsyncConnection[Any],
    jobs: Sequence[NewJob],
    *,
    schema: Schema,
    wake: Wake,
    keys: KnownKeys | None = None,
) -> tuple[Inserted, ...]:
    """Insert jobs as `insert_with` does, over a connection that Trio or asyncio drives."""
    with _refused(conn):
        whole: AbstractAsyncContextManager[Any] = conn.transaction() if _commits(conn) else nullcontext()
        async with whole:
            return await drive(Session(conn, schema), insert_steps(schema, jobs, wake=wake, keys=keys))


def _commits(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Return whether each statement would be a transaction of its own. Then no uniqueness would hold."""
    return conn.autocommit and conn.info.transaction_status == pq.TransactionStatus.IDLE


@contextmanager
def _refused(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> Generator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, _PLACE, lost=conn.closed) from error
    except UnicodeEncodeError as error:
        raise unsendable(error, _PLACE) from error
