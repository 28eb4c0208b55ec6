"""Transactions for Trio: in threads for a file, in the event loop for ``:memory:``.

A file has one writing thread at a time: SQLite allows one writer, and others would wait in threads. A separate
connection is for reading, so that a long listing never delays a claim. ``:memory:`` has one connection, used in the
event loop: its calls never wait, so everything works in virtual time.

Calls are all-or-nothing under cancellation, because a thread is never abandoned: Trio raises `Cancelled`
before the thread starts, or at the caller's next checkpoint after it got the result. A thread that reads is
interrupted at once: its result is not needed, and others wait for the connection.

The database is the file that the path names. Each call checks that this is still the open one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import attrs
import trio

from jobrt._storage.contract import DatabaseReplaced
from jobrt._storage.sqlite.async_connection import AsyncConnection
from jobrt._storage.sqlite.connection import (
    MEMORY,
    Busy,
    connect,
    pauses,
    rolled_back,
    shorten_log,
    translated,
)
from jobrt._storage.sqlite.file_watch import FileWatch, unusable
from jobrt._storage.sqlite.held import Held, Patience, reset, time_limit, too_long, undo, version_of
from jobrt._storage.sqlite.hub import Hub
from jobrt._storage.sqlite.sockets import Sockets
from jobrt._storage.sqlite.threads import open_file, retried, run, stop_with_caller
from jobrt._storage.sqlite.transaction import Transaction
from jobrt._storage.sqlite.turns import GAP, Pacing, TurnLock
from jobrt._storage.together import Together
from jobrt._storage.trio_only import refuse_asyncio
from jobrt.errors import StorageError, StorageUnavailable

T = TypeVar("T")

Work: TypeAlias = "Callable[[Transaction], Any]"


@asynccontextmanager
async def open_database(path: str, micros: Callable[[], int]) -> AsyncGenerator[Database]:
    """Open a file, or ``:memory:``, and close it when the block ends.

    Raises:
        StorageError: the file cannot be used; the message says why, in one line.

    """
    if path == MEMORY:
        connection = connect(path)
        try:
            yield Database(path, micros, threads=None, writer=connection, reader=connection, watch=None)
        finally:
            connection.close()
        return
    # A separate limiter: jobs that run in threads may use up Trio's default one. The third thread shortens the log.
    threads = trio.CapacityLimiter(3)
    file = str(Path(path).absolute())  # noqa: ASYNC240 - touches no file
    writer, reader, watch = await retried(partial(run, partial(open_file, file), threads))
    database = Database(path, micros, threads=threads, writer=writer, reader=reader, watch=watch)
    try:
        yield database
    finally:
        with trio.CancelScope(shield=True):
            await run(database.close, threads)


@attrs.define(eq=False)
class Database:
    """A database that is open in this process. `write`, `read` and `hold` run plain functions in transactions."""

    path: str
    micros: Callable[[], int]
    hub: Hub = attrs.field(factory=Hub, init=False)
    _threads: trio.CapacityLimiter | None = attrs.field(kw_only=True, alias="threads")
    _writer: sqlite3.Connection = attrs.field(kw_only=True, alias="writer")
    _reader: sqlite3.Connection = attrs.field(kw_only=True, alias="reader")
    _watch: FileWatch | None = attrs.field(kw_only=True, alias="watch")
    _writing: TurnLock = attrs.field(factory=TurnLock, init=False)
    _shared: Together[Work, tuple[Any]] = attrs.field(init=False)
    _reading: TurnLock = attrs.field(factory=TurnLock, init=False)
    _holding: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    """Order of the held transactions of this process."""
    _pacing: Pacing = attrs.field(factory=Pacing, init=False)
    _process: int = attrs.field(factory=os.getpid, init=False)
    _held: Held | None = attrs.field(default=None, init=False)
    approve: Callable[[Transaction], None] = attrs.field(default=lambda _tx: None, init=False)
    """Raises unless a file that has taken the place of the open one can be used."""
    registered: set[str] | None = attrs.field(default=None, init=False)
    """Workers that have registered since the file was replaced; None while it has not been. Others claim nothing."""
    noticed_at: float = attrs.field(factory=trio.current_time, init=False)
    """When another connection was last seen to have committed."""
    _seen: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        if self.inline:
            self._reading = self._writing
        self._shared = Together(self._write_all, self._write, turn=self._writing.turn, passing=(Busy,))
        self.hub.sockets = None if self.inline else Sockets.of(self._file)
        self._seen = self._version()

    @property
    def inline(self) -> bool:
        """Return whether calls run in the event loop."""
        return self._threads is None

    async def write(
        self, work: Callable[[Transaction], T], *, urgent: bool = False, shared: bool = False
    ) -> T:
        """Run `work` in a transaction that holds the write lock from the start.

        Args:
            work: what to do. It is done again if the transaction fails for another reason.
            urgent: it goes before others.
            shared: those who wait for the lock share a transaction. So none of them should take long.

        Raises:
            StorageUnavailable: the lock was not available in time, or the disk is full; nothing was done.

        """
        self.refuse_nested()
        write = self._shared if shared and not self.inline else partial(self._write, urgent=urgent)
        try:
            (result,) = await retried(partial(write, work))
        except DatabaseReplaced as error:
            raise await self._follow(error) from error
        return cast("T", result)

    async def _write(self, work: Work, *, urgent: bool = False) -> tuple[Any]:
        async with self._writing.turn(urgent=urgent):
            (result,) = await self._write_all([work])
        return result

    async def _write_all(self, works: Sequence[Work]) -> list[tuple[Any]]:
        done, version = await self._call(partial(self._transact, self._writer, works))
        self._notice(version)
        for tx, _ in done:
            self.hub.committed(tx)
        return [(result,) for _, result in done]

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on a snapshot; it cannot write."""
        try:
            result: T = await retried(partial(self._read, work))
        except DatabaseReplaced as error:
            raise await self._follow(error) from error
        return result

    async def _read(self, work: Callable[[Transaction], T]) -> T:
        if self.inline and self._nested():  # with a file, the reader is another connection
            await trio.lowlevel.checkpoint()
            return work(Transaction(self._reader, self.micros()))
        await self._reading.acquire()
        try:
            return await self._call(partial(self._transact_read, work, now=self.micros()))
        except StorageUnavailable:
            await trio.lowlevel.checkpoint_if_cancelled()  # the call was interrupted for that reason
            raise
        finally:
            self._reading.release()

    # ------------------------------------------------------------------ transactions for callers

    @asynccontextmanager
    async def hold(
        self,
        enter: Callable[[Transaction], None] = lambda _tx: None,
        leave: Callable[[Transaction], None] = lambda _tx: None,
    ) -> AsyncGenerator[AsyncConnection]:
        """Open a transaction for a caller's writes; `enter` and `leave` run at its ends. Commit only if nothing raises.

        Raises:
            StorageError: the block took too long, or ended the transaction itself.

        """
        refuse_asyncio()
        self.refuse_nested()
        async with self._holding:
            raw = self._writer if self.inline else await self._connect_held()
            try:
                tx, limit = await self._begin_held(raw, enter)
                began = trio.current_time()
                try:
                    async with self._block(tx, limit) as conn:
                        yield conn
                    await self._call(partial(self._leave, tx, leave))
                finally:
                    if self.inline or raw.in_transaction:
                        with trio.CancelScope(shield=True):
                            await self._call(partial(undo, raw))
                    self._held = None
                    self._pacing.ended(began=began, now=trio.current_time())
                    self._writing.release()
            finally:
                if not self.inline:
                    raw.close()
        self.hub.committed(tx)

    async def _connect_held(self) -> sqlite3.Connection:
        try:
            return await self._call(self._open_held)
        except DatabaseReplaced as error:
            raise await self._follow(error) from error

    def _open_held(self) -> sqlite3.Connection:
        """Open a connection that a block can change as it likes."""
        self._check_file()  # otherwise SQLite might create a file in its place
        connection = connect(self._file)
        stop_with_caller(connection)
        return connection

    async def _begin_held(
        self, raw: sqlite3.Connection, enter: Callable[[Transaction], None]
    ) -> tuple[Transaction, float]:
        """Take the turn and the file's lock; return the transaction, and the seconds that it may stay open.

        Who was refused waits, once the lock is free, for as long as it takes others to get in.
        """
        patience = Patience()
        refused = False
        for pause in pauses():
            if not self.inline:
                await trio.sleep_until(self._pacing.free_until)
            await self._writing.acquire()
            try:
                begun = await self._call(partial(self._enter, raw, enter, probe=refused))
            except Busy as error:
                self._writing.release()
                patience.refuse(error, await self._call(partial(version_of, raw)))
                refused = True
                await trio.sleep(pause)
            except BaseException:
                self._writing.release()
                raise
            else:
                if begun is not None:
                    return begun
                self._writing.release()
                refused = False
                await trio.sleep(GAP)
        raise AssertionError  # pragma: no cover - pauses never end

    @asynccontextmanager
    async def _block(self, tx: Transaction, limit: float) -> AsyncGenerator[AsyncConnection]:
        """Lend the connection for a while."""
        conn = AsyncConnection(tx.connection, self._call)
        self._held = Held(conn, tx)
        try:
            with trio.move_on_after(limit) as scope:
                yield conn
        finally:
            with trio.CancelScope(shield=True):
                await conn.end()
        if scope.cancelled_caught:
            raise too_long(self.path, limit)

    def joined(self, connection: object) -> Held | None:
        """Return the transaction that `hold` has open on this connection."""
        held = self._held
        return held if held and (connection is held.conn or connection is held.conn.raw) else None

    # ------------------------------------------------------------------ the file

    async def _follow(self, error: DatabaseReplaced) -> DatabaseReplaced:
        """Open the file that has taken the place of the open one, and return what to raise.

        Raises:
            StorageUnavailable: it cannot be used.

        """
        await self._writing.acquire(urgent=True)
        try:
            await self._reading.acquire()
            try:
                await self._call(self._reopen)
            finally:
                self._reading.release()
        finally:
            self._writing.release()
        return DatabaseReplaced(f"{error}; that one is open now, so try again")

    def _reopen(self) -> None:
        watch = self._watch
        if watch is None or not watch.replaced():
            return  # somebody else has been here, or it was moved back
        if left := watch.left_behind():
            raise StorageUnavailable(
                f"{self.path}: another file has taken the place of the one that was open, but {' and '.join(left)}"
                " still belong to that one, and would damage the new one: stop all programs that use the database,"
                " delete them, and start again"
            )
        try:
            writer, reader, new = open_file(self._file)
        except StorageError as error:
            raise unusable(error) from error
        try:
            self.approve(Transaction(reader, self.micros()))
        except StorageError as error:
            writer.close()
            reader.close()
            raise unusable(error) from error
        self.close()  # SQLite leaves alone what belongs to the new file
        self._writer, self._reader, self._watch = writer, reader, new
        self.hub.sockets = Sockets.of(self._file)
        self.registered = set()

    async def shorten_log(self) -> None:
        """Cut the write-ahead log if it is long. If that fails, for example beside a long reader, it stays."""
        if self._watch is not None:
            with suppress(StorageUnavailable):  # whoever writes next reports a full disk
                await self._call(partial(shorten_log, self._file))

    def close(self) -> None:
        """Close the connections."""
        for connection in {self._reader, self._writer}:
            connection.close()

    def notice_others(self) -> bool:
        """Notify listeners if another connection has committed; False if that cannot be told now. Takes 5 µs."""
        # While this process writes, no other can. Most of its transactions read the version themselves.
        if free := not self._writing.locked():
            self._notice(self._version())
        return free

    # ------------------------------------------------------------------ run in a thread, for files

    def _transact(
        self, connection: sqlite3.Connection, works: Sequence[Work]
    ) -> tuple[list[tuple[Transaction, Any]], int]:
        self._check_process()
        done: list[tuple[Transaction, Any]] = []
        with self._explained(), rolled_back(connection):
            connection.execute("BEGIN IMMEDIATE")
            version = version_of(connection)
            for work in works:
                # Not before: of two that have waited for the lock, the later one must not have the earlier time.
                tx = Transaction(connection, self.micros())
                done.append((tx, work(tx)))
            self._check_file()
            connection.execute("COMMIT")
        return done, version

    def _transact_read(self, work: Callable[[Transaction], T], *, now: int) -> T:
        self._check_process()
        with self._explained(), rolled_back(self._reader):
            self._reader.execute("BEGIN")
            result = work(Transaction(self._reader, now))
            self._reader.execute("COMMIT")
            self._check_file()
        return result

    def _enter(
        self, connection: sqlite3.Connection, enter: Callable[[Transaction], None], *, probe: bool
    ) -> tuple[Transaction, float] | None:
        """Begin; with `probe` only find out whether that could be done."""
        self._check_process()
        with self._explained(), rolled_back(connection):
            connection.execute("BEGIN IMMEDIATE")
            if probe:
                connection.execute("ROLLBACK")
                return None
            self._check_file()
            tx = Transaction(connection, self.micros())
            enter(tx)
            limit = time_limit(tx)
        return tx, limit

    def _leave(self, tx: Transaction, leave: Callable[[Transaction], None]) -> None:
        if not tx.connection.in_transaction:
            raise StorageError(
                f"{self.path}: the block ended the transaction itself; do not commit or roll back inside the block"
            )
        with self._explained():
            reset(tx.connection)
            tx.now = self.micros()
            leave(tx)
            self._check_file()
            tx.connection.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Convert the driver's errors. If the file is not the open one any more, raise that instead."""
        with translated(self.path):
            try:
                yield
            except sqlite3.Error:
                self._check_file()
                raise

    def _check_file(self) -> None:
        if self._watch is not None:
            self._watch.check()

    # ------------------------------------------------------------------ helpers

    async def _call(self, call: Callable[[], T]) -> T:
        return await run(call, self._threads)

    @property
    def _file(self) -> str:
        """The path as it was when the file was opened, whatever the working directory is now."""
        return self.path if self._watch is None else self._watch.path

    def _version(self) -> int:
        """Return a number that changes when another connection commits, but not when the writer does."""
        with translated(self.path):
            return version_of(self._writer)

    def _notice(self, version: int) -> None:
        if version != self._seen:
            self._seen = version
            self.noticed_at = trio.current_time()
            self.hub.others_committed()

    def _nested(self) -> bool:
        """Return whether the current task is in a block of `hold`."""
        return self._held is not None and self._writing.owner is trio.lowlevel.current_task()

    def refuse_nested(self) -> None:
        """Raise if the current task is in a block of `hold`: what it asks for would wait for that."""
        if self._nested():
            raise StorageError(
                f"{self.path}: this task has a transaction open, and a second one would wait for it forever:"
                " enqueue with conn=, and do the rest before or after the block"
            )

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise StorageError(
                f"{self.path}: the storage was opened before a fork, and SQLite connections do not survive one:"
                " open it in the process that uses it"
            )
