"""SQLite connections as jobrt needs them, and its errors in one line.

Nothing here knows Trio: `jobrt._storage.sqlite.blocking` uses it from plain threads.
"""

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from jobrt._storage.sqlite.filters import register_functions
from jobrt.errors import SchemaError, StorageError, StorageUnavailable

MEMORY: Final = ":memory:"

# STRICT tables; RETURNING (3.35) and upserts are older.
_NEEDED: Final = (3, 37, 0)

BUSY: Final = 0.2
"""Seconds that SQLite itself waits for a lock; longer waits are the caller's, who can be cancelled meanwhile."""

PATIENCE: Final = 30.0
"""Seconds to wait for a lock in all, before it is an error."""

_BUSY_CODES: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_TRANSIENT: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk cannot be read or written",
    sqlite3.SQLITE_NOMEM: "memory is exhausted",
    sqlite3.SQLITE_PROTOCOL: "the file is locked in a way that SQLite does not understand",
    sqlite3.SQLITE_INTERRUPT: "the call was interrupted",
}
_LASTING: Final = {
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database",
    sqlite3.SQLITE_CORRUPT: "the database is damaged; restore it, or try sqlite3's .recover",
    sqlite3.SQLITE_READONLY: "the file or its folder cannot be written",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_PERM: "access is denied",
}


class Busy(StorageUnavailable):
    """Raised when another connection holds the lock: nothing was done, so the call can be made again."""


def refusal(error: sqlite3.Error, place: str) -> StorageError:
    """Return the error of ours that tells of the driver's; `place` names the file."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _BUSY_CODES:
        return Busy(f"{place}: the database is locked by another connection")
    if code in _TRANSIENT:
        return StorageUnavailable(f"{place}: {_TRANSIENT[code]} ({error})")
    if code in _LASTING:
        return StorageError(f"{place}: {_LASTING[code]}")
    if "no such table: jobrt_" in str(error) or "no such column" in str(error):
        return SchemaError(f"{place}: {error}: run `python -m jobrt migrate`")
    return StorageError(f"{place}: {error}")


@contextmanager
def translated(place: str) -> Generator[None]:
    """Turn the driver's errors into ours, the driver's as ``__cause__``."""
    try:
        yield
    except sqlite3.Error as error:
        raise refusal(error, place) from error


@contextmanager
def rolled_back(connection: sqlite3.Connection) -> Generator[None]:
    """Roll back whatever is open when the block raises; some errors, a full disk for one, did so before."""
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.rollback()
        raise


def pauses() -> Iterator[float]:
    """Yield the seconds between tries for a lock, on top of what SQLite waits itself."""
    pause = 0.005
    while True:
        yield pause
        pause = min(pause * 2, 0.25)


def connect(path: str, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file, which may be used from any thread but by one at a time.

    WAL with ``synchronous=FULL``: a commit that was reported survives a power cut. ``:memory:`` needs neither.

    Raises:
        Busy: another connection is switching the file to WAL.
        StorageError: in one line, why this cannot be used.

    """
    _check_place(path)
    with translated(path):
        connection = sqlite3.connect(
            path, timeout=BUSY, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            _prepare(connection, memory=path == MEMORY, read_only=read_only)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, *, memory: bool, read_only: bool) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    register_functions(connection)
    if not memory:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA synchronous = FULL")
    if read_only:
        connection.execute("PRAGMA query_only = ON")


def _check_place(path: str) -> None:
    """Find out ahead what SQLite would only call "unable to open database file"."""
    if sqlite3.sqlite_version_info < _NEEDED:
        needed = ".".join(map(str, _NEEDED))
        raise StorageError(f"this Python has SQLite {sqlite3.sqlite_version}, jobrt needs {needed} or newer")
    if path == MEMORY:
        return
    file = Path(path)
    if file.is_dir():
        raise StorageError(f"{path}: is a folder; name a file in it")
    if not file.parent.is_dir():
        raise StorageError(f"{path}: there is no folder {file.parent}; create it first")
