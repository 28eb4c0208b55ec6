"""Calls in threads of the storage's own, which are never abandoned, and statements that end with their caller."""

import sqlite3
from collections.abc import Callable
from typing import Final, TypeVar

import trio

T = TypeVar("T")

_STEPS: Final = 500_000
"""Steps of SQLite's virtual machine, some 10 to 50 ms, between checks whether the caller was cancelled. A check needs
the GIL, for which a thread may have to wait five milliseconds."""


async def run(call: Callable[[], T], threads: trio.CapacityLimiter | None) -> T:
    """Call in the event loop, or in a thread that is never abandoned."""
    return call() if threads is None else await trio.to_thread.run_sync(call, limiter=threads)


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
