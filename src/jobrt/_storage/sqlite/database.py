"""Transactions for Trio: in threads for a file, in the event loop for ``:memory:``.

A file has one writing thread at a time: SQLite allows one writer, and others would wait in threads. A separate
connection is for reading, so that a long listing never delays a claim. ``:memory:`` has one connection, used in the
event loop: its calls never wait, so everything works in virtual time.

Calls are all-or-nothing under cancellation, because a thread is never abandoned: Trio raises `Cancelled`
before the thread starts, or at the caller's next checkpoint after it got the result. A thread that reads is
interrupted at once: its result is not needed, and others wait for the connection.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

import attrs
import trio

from jobrt._storage.sqlite.connection import MEMORY, PATIENCE, Busy, connect, pauses, rolled_back, translated
from jobrt._storage.sqlite.hub import Hub
from jobrt._storage.sqlite.transaction import Transaction
from jobrt.errors import StorageError, StorageUnavailable

T = TypeVar("T")

_HELD: Final = 10.0
"""Seconds that a job's own transaction may stay open: no heartbeat can be written meanwhile."""

_STEPS: Final = 500_000
"""Steps of SQLite's virtual machine, some 10 to 50 ms, between checks whether a reader's caller was cancelled. A check
needs the GIL, for which a thread may have to wait five milliseconds."""


async def _retried(call: Callable[[], Any]) -> Any:
    """Await `call`, and repeat it while the database is locked. Waiting can be cancelled."""
    deadline = trio.current_time() + PATIENCE
    for pause in pauses():
        try:
            return await call()
        except Busy as error:
            if trio.current_time() >= deadline:
                raise StorageUnavailable(f"{error} for more than {PATIENCE:.0f} seconds") from error
        await trio.sleep(pause)
    raise AssertionError  # pragma: no cover - pauses never end


@asynccontextmanager
async def open_database(path: str, micros: Callable[[], int]) -> AsyncGenerator[Database]:
    """Open a file, or ``:memory:``, and close it when the block ends.

    Raises:
        StorageError: the file cannot be used; the message says why, in one line.

    """
    # A separate limiter: jobs that run in threads may use up Trio's default one.
    threads = None if path == MEMORY else trio.CapacityLimiter(2)
    writer = await _retried(partial(_run, partial(connect, path), threads))
    reader = writer
    try:
        if threads is not None:
            reader = await _retried(partial(_run, partial(connect, path, read_only=True), threads))
            reader.set_progress_handler(_caller_cancelled, _STEPS)
        yield Database(path, micros, threads=threads, writer=writer, reader=reader)
    finally:
        with trio.CancelScope(shield=True):
            for connection in {reader, writer}:
                await _run(connection.close, threads)


async def _run(call: Callable[[], T], threads: trio.CapacityLimiter | None) -> T:
    """Call in the event loop, or in a thread that is never abandoned."""
    return call() if threads is None else await trio.to_thread.run_sync(call, limiter=threads)


def _caller_cancelled() -> bool:
    """Return whether this thread's caller has been cancelled."""
    try:
        trio.from_thread.check_cancelled()
    except trio.Cancelled:
        return True
    return False


@attrs.define(eq=False)
class Database:
    """A database that is open in this process. `write`, `read` and `hold` run plain functions in transactions."""

    path: str
    micros: Callable[[], int]
    hub: Hub = attrs.field(factory=Hub, init=False)
    _threads: trio.CapacityLimiter | None = attrs.field(kw_only=True, alias="threads")
    _writer: sqlite3.Connection = attrs.field(kw_only=True, alias="writer")
    _reader: sqlite3.Connection = attrs.field(kw_only=True, alias="reader")
    _writing: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    _reading: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    _process: int = attrs.field(factory=os.getpid, init=False)
    _held: Transaction | None = attrs.field(default=None, init=False)
    noticed_at: float = attrs.field(factory=trio.current_time, init=False)
    """When another connection was last seen to have committed."""
    _seen: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        if self.inline:
            self._reading = self._writing
        self._seen = self._version()

    @property
    def inline(self) -> bool:
        """Return whether calls run in the event loop."""
        return self._threads is None

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction that holds the write lock from the start.

        Raises:
            StorageUnavailable: the lock was not available in time, or the disk is full; nothing was done.

        """
        result: T = await _retried(partial(self._write, work))
        return result

    async def _write(self, work: Callable[[Transaction], T]) -> T:
        if self._nested():
            raise StorageError(
                f"{self.path}: this task has a transaction open, and a second one would wait for it forever:"
                " enqueue with conn=, and do the rest before or after the block"
            )
        async with self._writing:
            call = partial(self._transact, self._writer, work, now=self.micros())
            result, tx, version = await self._call(call)
            self._notice(version)
            self.hub.committed(tx)
        return result

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on a snapshot; it cannot write."""
        result: T = await _retried(partial(self._read, work))
        return result

    async def _read(self, work: Callable[[Transaction], T]) -> T:
        if self.inline and self._nested():  # with a file, the reader is another connection
            await trio.lowlevel.checkpoint()
            return work(Transaction(self._reader, self.micros()))
        async with self._reading:
            try:
                return await self._call(partial(self._transact_read, work, now=self.micros()))
            except StorageUnavailable:
                await trio.lowlevel.checkpoint_if_cancelled()  # the call was interrupted for that reason
                raise

    @asynccontextmanager
    async def hold(
        self, enter: Callable[[Transaction], None], leave: Callable[[Transaction], None]
    ) -> AsyncGenerator[sqlite3.Connection]:
        """Open a transaction for a caller's writes; `enter` and `leave` run at its ends. Commit only if nothing raises.

        Raises:
            StorageError: the block took too long, or ended the transaction itself.

        """
        async with self._writing:
            connection = self._writer if self.inline else await self._call(partial(connect, self.path))
            try:
                with rolled_back(connection):
                    tx = await _retried(partial(self._call, partial(self._enter, connection, enter)))
                    self._held = tx
                    with trio.move_on_after(_HELD) as scope:
                        yield connection
                    self._check_held(connection, late=scope.cancelled_caught)
                    await self._call(partial(self._leave, tx, leave))
            finally:
                self._held = None
                connection.row_factory = None  # the caller may have changed it, and the writer is used again
                if not self.inline:
                    connection.close()
            self.hub.committed(tx)

    def joined(self, connection: object) -> Transaction | None:
        """Return the transaction that `hold` has open on this connection."""
        held = self._held
        return held if held is not None and held.connection is connection else None

    def notice_others(self) -> None:
        """Notify listeners if another connection has committed. Takes 5 µs."""
        # While this process writes, no other can. Its own transactions read the version themselves.
        if not self._writing.locked():
            self._notice(self._version())

    # ------------------------------------------------------------------ run in a thread, for files

    def _transact(
        self, connection: sqlite3.Connection, work: Callable[[Transaction], T], *, now: int
    ) -> tuple[T, Transaction, int]:
        self._check_process()
        with translated(self.path), rolled_back(connection):
            connection.execute("BEGIN IMMEDIATE")
            tx = Transaction(connection, now)
            version: int = tx.value("PRAGMA data_version")
            result = work(tx)
            connection.execute("COMMIT")
        return result, tx, version

    def _transact_read(self, work: Callable[[Transaction], T], *, now: int) -> T:
        self._check_process()
        with translated(self.path), rolled_back(self._reader):
            self._reader.execute("BEGIN")
            result = work(Transaction(self._reader, now))
            self._reader.execute("COMMIT")
        return result

    def _enter(self, connection: sqlite3.Connection, enter: Callable[[Transaction], None]) -> Transaction:
        self._check_process()
        with translated(self.path):
            connection.execute("BEGIN IMMEDIATE")
            tx = Transaction(connection, self.micros())
            enter(tx)
        return tx

    def _leave(self, tx: Transaction, leave: Callable[[Transaction], None]) -> None:
        with translated(self.path):
            tx.now = self.micros()
            leave(tx)
            tx.connection.execute("COMMIT")

    # ------------------------------------------------------------------ helpers

    async def _call(self, call: Callable[[], T]) -> T:
        return await _run(call, self._threads)

    def _version(self) -> int:
        """Return a number that changes when another connection commits, but not when the writer does."""
        with translated(self.path):
            (version,) = self._writer.execute("PRAGMA data_version").fetchone()
        return int(version)

    def _notice(self, version: int) -> None:
        if version != self._seen:
            self._seen = version
            self.noticed_at = trio.current_time()
            self.hub.others_committed()

    def _nested(self) -> bool:
        """Return whether the current task is in a block of `hold`."""
        return self._held is not None and self._writing.statistics().owner is trio.lowlevel.current_task()

    def _check_held(self, connection: sqlite3.Connection, *, late: bool) -> None:
        if late:
            raise StorageError(
                f"{self.path}: a transaction was open for more than {_HELD:.0f} seconds, which blocks all"
                " other writers; it was rolled back: do the slow part before the transaction"
            )
        if not connection.in_transaction:
            raise StorageError(
                f"{self.path}: the block ended the transaction itself; do not commit or roll back inside the block"
            )

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise StorageError(
                f"{self.path}: the storage was opened before a fork, and SQLite connections do not survive one:"
                " open it in the process that uses it"
            )
