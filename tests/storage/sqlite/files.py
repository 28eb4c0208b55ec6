"""Hold a file's write lock, and run other processes on it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Locked", "locked", "python"]

PATIENCE = 30
"""Seconds that another process may take before a test fails instead of hanging."""


class Locked:
    """A lock that another thread holds on a file until `release`."""

    def __init__(self, path: Path) -> None:
        self._held, self._release = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, args=[path])

    def _hold(self, path: Path) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("begin immediate")
            self._held.set()
            self._release.wait()
            connection.execute("rollback")
        finally:
            connection.close()

    def take(self) -> None:
        """Return when the lock is held."""
        self._thread.start()
        assert self._held.wait(PATIENCE)

    def release(self) -> None:
        """Release the lock."""
        self._release.set()
        self._thread.join(PATIENCE)


@contextmanager
def locked(path: Path) -> Iterator[Locked]:
    """Hold the write lock of a file from another thread until `release`, or to the end of the block."""
    lock = Locked(path)
    lock.take()
    try:
        yield lock
    finally:
        lock.release()


@contextmanager
def python(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run code in another Python process, with line-based input and output; it is ended after the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
