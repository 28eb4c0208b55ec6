"""A SQLite file for programs without Trio, such as threads and scripts; also inside a caller's transaction."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from os import PathLike, fspath
from typing import Any, Final, TypeVar

import attrs

from jobrt._core.job import JobRecord, NewJob
from jobrt._core.where import Where
from jobrt._storage.blocking_pool import BlockingPool
from jobrt._storage.contract import Inserted
from jobrt._storage.sqlite.callers import insert_with
from jobrt._storage.sqlite.changes import cancel, delete, rerun, update
from jobrt._storage.sqlite.connection import PATIENCE, Busy, connect, pauses, rolled_back, translated
from jobrt._storage.sqlite.insert import insert
from jobrt._storage.sqlite.messages import send
from jobrt._storage.sqlite.own_transactions import open_transaction
from jobrt._storage.sqlite.query import count, get, query
from jobrt._storage.sqlite.rows import micros, moment
from jobrt._storage.sqlite.schema import migrate, outdated
from jobrt._storage.sqlite.sockets import SOON, Sockets, word_for
from jobrt._storage.sqlite.transaction import Transaction
from jobrt.errors import StorageUnavailable

T = TypeVar("T")

_OWN_PATIENCE: Final = 5.0
"""Seconds to wait for a transaction of this process that may be the caller's own. It is sqlite3's default timeout."""

_ours: Final[set[int]] = set()
"""Ids of the open connections of this module, whose transactions always end by themselves."""


@contextmanager
def open_blocking(
    path: str | PathLike[str], *, clock: Callable[[], datetime] | None = None
) -> Generator[BlockingSqlite]:
    """Open a file for any number of threads; see `jobrt._storage.sqlite.open_sqlite`."""
    storage = BlockingSqlite(fspath(path), clock or partial(datetime.now, UTC))
    try:
        storage.open()
        yield storage
    finally:
        storage.close()


@attrs.frozen
class _Opened:
    """A connection, and the file that its path named when it was opened."""

    connection: sqlite3.Connection
    file: tuple[int, int]
    sockets: Sockets


@attrs.frozen
class BlockingSqlite:
    """Implementation of `BlockingJobs`."""

    path: str
    _clock: Callable[[], datetime] = attrs.field(factory=lambda: partial(datetime.now, UTC))
    _pool: BlockingPool[_Opened] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        pool = BlockingPool(
            partial(_connect, self.path, self._clock),
            _close,
            partial(_usable, self.path),
            place=self.path,
            closed_before_fork=True,
        )
        object.__setattr__(self, "_pool", pool)

    def open(self) -> None:
        """Create or migrate the file now, and not with the first call."""
        with self._pool.lend():
            pass

    def close(self) -> None:
        """Close all connections; those in use, when their calls have ended."""
        self._pool.close()

    def now(self) -> datetime:
        """Return the storage's time."""
        return moment(micros(self._clock()))

    def insert(self, jobs: Sequence[NewJob], *, conn: object = None) -> tuple[Inserted, ...]:
        if conn is not None:
            inserted = insert_with(conn, jobs, now=micros(self._clock()), file=self.path)
            self.tell_soon()
            return inserted
        return self.write(partial(insert, jobs=jobs))

    def tell_soon(self) -> None:
        """Tell other processes of jobs in a caller's transaction."""
        Sockets.of(self.path).send(SOON)

    def get(self, job_id: int) -> JobRecord | None:
        return self.read(partial(get, job_id=job_id))

    def query(
        self, where: Where, *, order_by: str, limit: int | None, after: int | None, details: bool
    ) -> tuple[JobRecord, ...]:
        look = partial(query, where=where, order_by=order_by, limit=limit, after=after, details=details)
        return self.read(look)

    def count(self, where: Where, *, limit: int | None = None) -> int:
        return self.read(partial(count, where=where, limit=limit))

    def cancel(self, where: Where, reason: str) -> tuple[int, int]:
        return self.write(partial(cancel, where=where, reason=reason, limit=None))

    def rerun(self, where: Where) -> int:
        return self.write(partial(rerun, where=where, limit=None))

    def update(self, where: Where, changes: Mapping[str, Any]) -> int:
        return self.write(partial(update, where=where, changes=changes))

    def delete(self, where: Where, *, limit: int | None = None) -> int:
        return self.write(partial(delete, where=where, limit=limit))

    def send(self, job_id: int, name: str, value: str, *, key: str | None = None) -> bool:
        return self.write(partial(send, job_id=job_id, name=name, value=value, key=key))

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Run one of this engine's functions in a transaction, waiting for the lock at most `PATIENCE` seconds."""
        return self._run(work, "BEGIN IMMEDIATE")

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Run one of this engine's functions that only reads."""
        return self._run(work, "BEGIN")

    def _run(self, work: Callable[[Transaction], T], begin: str) -> T:
        with self._pool.lend() as opened:
            call = partial(
                _transact, opened.connection, work, begin=begin, place=self.path, clock=self._clock
            )
            result, word = _retried(call, self.path)
            if word is not None:
                opened.sockets.send(word)
            return result


def _connect(path: str, clock: Callable[[], datetime]) -> _Opened:
    connection = _retried(partial(connect, path), path)
    _ours.add(id(connection))
    try:
        transact = partial(_transact, connection, place=path, clock=clock)
        # Only read, if there is nothing to migrate: another connection may hold the lock for long.
        behind, _ = _retried(partial(transact, outdated, begin="BEGIN"), path)
        if behind:
            _retried(partial(transact, partial(migrate, place=path), begin="BEGIN IMMEDIATE"), path)
        return _Opened(connection, _identity(path), Sockets.of(path))
    except BaseException:
        _drop(connection)
        raise


def _close(opened: _Opened) -> None:
    _drop(opened.connection)


def _drop(connection: sqlite3.Connection) -> None:
    _ours.discard(id(connection))
    connection.close()


def _usable(path: str, opened: _Opened) -> bool:
    """Return whether the path still names the file that was opened: it may have been moved or replaced."""
    try:
        return opened.file == _identity(path)
    except OSError:
        return False


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, for each call
    return found.st_dev, found.st_ino


def _transact(
    connection: sqlite3.Connection,
    work: Callable[[Transaction], T],
    *,
    begin: str,
    place: str,
    clock: Callable[[], datetime],
) -> tuple[T, bytes | None]:
    """Run `work` in a transaction; return its result, and what to tell the listeners."""
    with translated(place), rolled_back(connection):
        connection.execute(begin)
        tx = Transaction(connection, micros(clock()))
        result = work(tx)
        connection.execute("COMMIT")
    return result, word_for(tx)


def _retried(call: Callable[[], T], path: str) -> T:
    """Call, and repeat the call while the database is locked, for at most `PATIENCE` seconds."""
    started = time.monotonic()
    patience = PATIENCE
    for tries, pause in enumerate(pauses()):
        try:
            return call()
        except Busy as error:
            if tries == 0:
                patience = _patience(path, error)
            if time.monotonic() >= started + patience:
                raise StorageUnavailable(
                    f"{error} for more than {patience:.0f} seconds{_hint(path)}"
                ) from error
        time.sleep(pause)
    raise AssertionError  # pragma: no cover - pauses never end


def _patience(path: str, error: Busy) -> float:
    """Return the seconds to wait for the lock; raise if this thread waits for itself."""
    match open_transaction(path, ours=_ours):
        case "thread":
            raise StorageUnavailable(
                f"{path}: this thread has an open transaction of its own on the file, and waits for itself:"
                " pass its connection as conn=, or commit it first"
            ) from error
        case "process":
            return _OWN_PATIENCE
        case None:
            return PATIENCE


def _hint(path: str) -> str:
    if open_transaction(path, ours=_ours) is None:
        return ""
    return "; this program has an open transaction on it: pass its connection as conn=, or commit it first"
