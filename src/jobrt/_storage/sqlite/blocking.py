"""Use the storage without Trio: in threads, scripts, and inside a caller's own transaction."""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from jobrt._storage.sqlite import query, schema
from jobrt._storage.sqlite.connection import PATIENCE, Busy, connect, pauses, rolled_back, translated
from jobrt._storage.sqlite.insert import insert, insert_joined, join
from jobrt._storage.sqlite.rows import micros, moment
from jobrt._storage.sqlite.transaction import Transaction
from jobrt.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from jobrt._core.job import JobRecord, NewJob
    from jobrt._storage.contract import Inserted

__all__ = ["BlockingStorage", "insert_sync", "open_blocking"]

T = TypeVar("T")


def insert_sync(
    connection: object, jobs: Sequence[NewJob], *, now: datetime | None = None
) -> tuple[Inserted, ...]:
    """Insert jobs in the caller's transaction, which the caller commits or rolls back.

    Other processes see the commit by themselves. A connection that opens transactions by itself (sqlite3's
    default) gets one opened here.

    Raises:
        StorageError: this is no sqlite3 connection, or one in autocommit mode without a transaction.
        StorageUnavailable: another connection holds the write lock for longer than the connection's timeout.

    """
    tx = join(connection, micros(now or datetime.now(UTC)))
    return insert_joined(tx, jobs)


@contextmanager
def open_blocking(
    path: str | PathLike[str], *, clock: Callable[[], datetime] | None = None, migrate: bool = True
) -> Generator[BlockingStorage]:
    """Open a file for one thread at a time; see `jobrt._storage.sqlite.open_sqlite`."""
    place = fspath(path)
    connection = _patiently(partial(connect, place))
    try:
        storage = BlockingStorage(place, connection, clock or partial(datetime.now, UTC))
        if migrate:
            storage.write(partial(schema.migrate, place=place))
        yield storage
    finally:
        connection.close()


@attrs.define(eq=False)
class BlockingStorage:
    """Do what a program without Trio needs: insert, and look."""

    path: str
    _connection: sqlite3.Connection
    _clock: Callable[[], datetime]

    def now(self) -> datetime:
        """Return the storage's time."""
        return moment(micros(self._clock()))

    def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]:
        """Insert jobs in a transaction of their own, or in the caller's."""
        if conn is not None:
            return insert_sync(conn, jobs, now=self._clock())
        return self.write(partial(insert, jobs=jobs))

    def get(self, job_id: int) -> JobRecord | None:
        """Return a job with everything known of it, or None."""
        return self.write(partial(query.get, job_id=job_id), begin="BEGIN")

    def write(self, work: Callable[[Transaction], T], *, begin: str = "BEGIN IMMEDIATE") -> T:
        """Run one of this engine's functions in a transaction, waiting for the lock at most half a minute."""
        result: T = _patiently(partial(self._transact, work, begin))
        return result

    def _transact(self, work: Callable[[Transaction], T], begin: str) -> T:
        with translated(self.path), rolled_back(self._connection):
            self._connection.execute(begin)
            result = work(Transaction(self._connection, micros(self._clock())))
            self._connection.execute("COMMIT")
        return result


def _patiently(call: Callable[[], Any]) -> Any:
    """Call until it is not refused for a lock."""
    deadline = time.monotonic() + PATIENCE
    for pause in pauses():
        try:
            return call()
        except Busy as error:
            if time.monotonic() >= deadline:
                raise StorageUnavailable(f"{error} for more than {PATIENCE:.0f} seconds") from error
        time.sleep(pause)
    raise AssertionError  # pragma: no cover - pauses never end
