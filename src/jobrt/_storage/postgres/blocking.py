"""A PostgreSQL database for programs without Trio: over plain psycopg, and over psycopg on asyncio."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg import pq

from jobrt._core.job import JobRecord, NewJob
from jobrt._core.walks import batches
from jobrt._core.where import Where
from jobrt._storage.blocking_pool import BlockingPool
from jobrt._storage.contract import Inserted
from jobrt._storage.postgres.callers import blocking_connection, insert_with
from jobrt._storage.postgres.changes import cancel_steps, count, make_due_steps, rerun, update
from jobrt._storage.postgres.database import TRIES, lost_a_race
from jobrt._storage.postgres.insert import insert_steps
from jobrt._storage.postgres.keys import KnownKeys
from jobrt._storage.postgres.messages import send_steps
from jobrt._storage.postgres.names import Run, Schema
from jobrt._storage.postgres.prune import delete
from jobrt._storage.postgres.query import by_id, listing, query_steps
from jobrt._storage.postgres.rows import Row, job_record
from jobrt._storage.postgres.session import BlockingSession, Session
from jobrt._storage.postgres.steps import Steps, drive, drive_sync
from jobrt._trio_psycopg.errors import is_stale, translate, unsendable
from jobrt._trio_psycopg.pool import ENCODING, place_of
from jobrt.errors import StorageError

T = TypeVar("T")


@contextmanager
def open_blocking(url: str, *, schema: str = "jobrt", listen: bool = True) -> Generator[BlockingPostgres]:
    """Use a database from any number of threads; see `jobrt._storage.postgres.open_postgres`.

    Connections are opened on first use, and reopened after they were lost. With ``listen=False`` they notify no worker
    and prepare no statement: behind a pooler in transaction mode the next statement may run in another session.
    """
    storage = BlockingPostgres(url, schema, listen=listen)
    try:
        yield storage
    finally:
        storage.close()


class BlockingPostgres:
    """Implementation of `BlockingJobs`."""

    def __init__(self, url: str, schema: str, *, listen: bool) -> None:
        self._where = place_of(url)
        self._schema = Schema(schema)
        self._channel = self._schema.channel if listen else None
        self._keys = KnownKeys()
        connect = partial(_connect, url, self._where, prepare=5 if listen else None)
        self._pool = BlockingPool(connect, psycopg.Connection[Any].close, usable, place=self._where)

    def open(self) -> None:
        """Do nothing: the first call connects."""

    def close(self) -> None:
        """Close all connections; those in use, when their calls have ended."""
        self._pool.close()

    def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]:
        if conn is None:
            return self._transact(partial(insert_steps, self._schema, jobs, wake=self._wake, keys=self._keys))
        return insert_with(
            blocking_connection(conn), jobs, schema=self._schema, wake=self._wake, keys=self._keys
        )

    def get(self, job_id: int) -> JobRecord | None:
        rows = self._run(by_id(self._schema, job_id))
        return job_record(rows[0]) if rows else None

    def query(
        self, where: Where, *, order_by: str, limit: int | None, after: int | None, details: bool
    ) -> tuple[JobRecord, ...]:
        query: Any = {"order_by": order_by, "limit": limit, "after": after, "details": details}
        if batches(where, order_by) is None:
            rows = self._run(listing(self._schema, where, **query))
        else:
            rows = self._transact(partial(query_steps, self._schema, where, **query))
        return tuple(map(job_record, rows))

    def count(self, where: Where, *, limit: int | None = None) -> int:
        ((number,),) = self._run(count(self._schema, where, limit=limit))
        return int(number)

    def cancel(self, where: Where, reason: str) -> tuple[int, int]:
        return self._transact(
            partial(cancel_steps, self._schema, where, reason=reason, channel=self._channel)
        )

    def rerun(self, where: Where) -> int:
        return self._make_due(rerun(self._schema, where, limit=None))

    def update(self, where: Where, changes: Mapping[str, Any]) -> int:
        return self._make_due(update(self._schema, where, changes))

    def delete(self, where: Where, *, limit: int | None = None) -> int:
        return self._transact(partial(delete, self._schema, where, limit=limit))

    def send(self, job_id: int, name: str, value: str, *, key: str | None = None) -> bool:
        return self._transact(partial(send_steps, self._schema, job_id, name=name, value=value, key=key))

    def _make_due(self, run: Run) -> int:
        return self._transact(partial(make_due_steps, self._schema, run, channel=self._channel))

    def _run(self, run: Run) -> list[Row]:
        """Run a statement that only reads."""
        return _retried(partial(self._read, run))

    def _read(self, run: Run) -> list[Row]:
        with self._lent() as conn:
            return _rows(BlockingSession(conn), run)

    def _transact(self, steps: Callable[[], Steps[T]]) -> T:
        """Run steps in a transaction."""
        return _retried(partial(self._try, steps))

    def _try(self, steps: Callable[[], Steps[T]]) -> T:
        with self._lent() as conn, conn.transaction():
            return drive_sync(BlockingSession(conn), steps())

    @contextmanager
    def _lent(self) -> Generator[psycopg.Connection[Any]]:
        with self._pool.lend() as conn:
            try:
                yield conn
            except psycopg.Error as error:
                if is_stale(error):
                    conn.close()  # another call opens another
                raise translate(error, self._where, lost=conn.closed) from error

    def _wake(self, _queue: str) -> str | None:
        return self._channel


def _retried(call: Callable[[], T]) -> T:
    """Call, and call again if the database undid it to end a deadlock, or the session did not fit it any more."""
    for _ in range(TRIES - 1):
        try:
            return call()
        except StorageError as error:
            if not lost_a_race(error) and not is_stale(error.__cause__):
                raise
    return call()


def _rows(session: BlockingSession, run: Run) -> list[Row]:
    return session.run(run.statement, **run.values)


def _connect(url: str, where: str, *, prepare: int | None) -> psycopg.Connection[Any]:
    try:
        conn = psycopg.connect(url, autocommit=True, prepare_threshold=prepare, client_encoding=ENCODING)
    except psycopg.Error as error:
        raise translate(error, f"cannot connect to {where}", lost=True) from error
    conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED  # whatever the database's default is
    return conn


def usable(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Return whether a connection can be used for another call. Reads what the server has sent, without waiting."""
    if conn.closed:
        return False
    try:
        for _ in ("the last words of a server that ends the session", "the end of the stream"):
            conn.pgconn.consume_input()
    except psycopg.Error:
        return False
    return not conn.closed and conn.pgconn.transaction_status == pq.TransactionStatus.IDLE


async def insert_async(
    conn: psycopg.AsyncConnection[Any], jobs: Sequence[NewJob], *, schema: str
) -> tuple[Inserted, ...]:
    """Insert jobs over a connection driven by asyncio, in its open transaction if there is one.

    Raises:
        StorageError: the database reported an error.

    """
    if not isinstance(conn, psycopg.AsyncConnection):
        raise StorageError(f"conn is of type {type(conn).__qualname__}: pass a psycopg.AsyncConnection")
    names = Schema(schema)
    try:
        async with conn.transaction():
            return await drive(
                Session(conn, names), insert_steps(names, jobs, wake=lambda _queue: names.channel)
            )
    except psycopg.Error as error:
        raise translate(error, "jobrt.blocking", lost=conn.closed) from error
    except UnicodeEncodeError as error:
        raise unsendable(error, "jobrt.blocking") from error
