"""A SQLite file for programs without Trio, such as threads and scripts; also inside a caller's transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from os import PathLike, fspath
from typing import Any, TypeVar

import attrs

from jobrt._core.job import JobRecord, NewJob
from jobrt._storage.contract import Inserted
from jobrt._storage.sqlite.connection import PATIENCE, Busy, connect, pauses, rolled_back, translated
from jobrt._storage.sqlite.insert import insert, insert_joined, join
from jobrt._storage.sqlite.query import get
from jobrt._storage.sqlite.rows import micros, moment
from jobrt._storage.sqlite.schema import migrate, outdated
from jobrt._storage.sqlite.transaction import Transaction
from jobrt.errors import StorageUnavailable

T = TypeVar("T")


@contextmanager
def open_blocking(
    path: str | PathLike[str], *, clock: Callable[[], datetime] | None = None
) -> Generator[BlockingSqlite]:
    """Open a file for one thread at a time; see `jobrt._storage.sqlite.open_sqlite`."""
    place = fspath(path)
    connection = _retried(partial(connect, place))
    try:
        storage = BlockingSqlite(place, connection, clock or partial(datetime.now, UTC))
        if storage.write(outdated, begin="BEGIN"):  # so a file that this thread has locked opens at once
            storage.write(partial(migrate, place=place))
        yield storage
    finally:
        connection.close()


@attrs.frozen
class BlockingSqlite:
    """Implementation of `BlockingJobs`."""

    path: str
    _connection: sqlite3.Connection
    _clock: Callable[[], datetime]

    def now(self) -> datetime:
        """Return the storage's time."""
        return moment(micros(self._clock()))

    def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]:
        if conn is not None:
            return insert_joined(join(conn, micros(self._clock())), jobs)
        return self.write(partial(insert, jobs=jobs))

    def get(self, job_id: int) -> JobRecord | None:
        return self.write(partial(get, job_id=job_id), begin="BEGIN")

    def write(self, work: Callable[[Transaction], T], *, begin: str = "BEGIN IMMEDIATE") -> T:
        """Run one of this engine's functions in a transaction, waiting for the lock at most `PATIENCE` seconds."""
        result: T = _retried(partial(self._transact, work, begin))
        return result

    def _transact(self, work: Callable[[Transaction], T], begin: str) -> T:
        with translated(self.path), rolled_back(self._connection):
            self._connection.execute(begin)
            result = work(Transaction(self._connection, micros(self._clock())))
            self._connection.execute("COMMIT")
        return result


def _retried(call: Callable[[], Any]) -> Any:
    """Call, and repeat the call while the database is locked, for at most `PATIENCE` seconds."""
    deadline = time.monotonic() + PATIENCE
    for pause in pauses():
        try:
            return call()
        except Busy as error:
            if time.monotonic() >= deadline:
                raise StorageUnavailable(f"{error} for more than {PATIENCE:.0f} seconds") from error
        time.sleep(pause)
    raise AssertionError  # pragma: no cover - pauses never end
