"""Calls in threads of the storage's own, which are never abandoned, and statements that end with their caller."""

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from jobrt._storage.sqlite.connection import PATIENCE, Busy, connect, pauses
from jobrt._storage.sqlite.file_watch import FileWatch
from jobrt._storage.trio_only import refuse_asyncio
from jobrt.errors import StorageUnavailable

T = TypeVar("T")

_STEPS: Final = 500_000
"""Steps of SQLite's virtual machine, some 10 to 50 ms, between checks whether the caller was cancelled. A check needs
the GIL, for which a thread may have to wait five milliseconds."""


async def run(call: Callable[[], T], threads: trio.CapacityLimiter | None) -> T:
    """Call in the event loop, or in a thread that is never abandoned."""
    return call() if threads is None else await trio.to_thread.run_sync(call, limiter=threads)


async def retried(call: Callable[[], Awaitable[T]]) -> T:
    """Await `call`, and repeat it while the database is locked. Waiting can be cancelled."""
    refuse_asyncio()
    deadline = trio.current_time() + PATIENCE
    for pause in pauses():
        try:
            return await call()
        except Busy as error:
            if trio.current_time() >= deadline:
                raise StorageUnavailable(f"{error} for more than {PATIENCE:.0f} seconds") from error
        await trio.sleep(pause)
    raise AssertionError  # pragma: no cover - pauses never end


def open_file(file: str) -> tuple[sqlite3.Connection, sqlite3.Connection, FileWatch]:
    """Open a file to write and to read; statements of the second end with their caller."""
    writer = connect(file)
    try:
        reader = connect(file, read_only=True)
    except BaseException:
        writer.close()
        raise
    stop_with_caller(reader)
    return writer, reader, FileWatch.of(file)


def stop_with_caller(connection: sqlite3.Connection) -> None:
    """Have the connection's statements stop when the task that waits for them is cancelled."""
    connection.set_progress_handler(_caller_cancelled, _STEPS)


def _caller_cancelled() -> bool:
    try:
        trio.from_thread.check_cancelled()
    except trio.Cancelled:
        return True
    except RuntimeError:  # no thread of Trio's: a block uses the connection itself
        pass
    return False
