"""SQLite connections with the settings that jobrt needs, and its errors in one line.

This module does not use Trio: `jobrt._storage.sqlite.blocking` calls it from plain threads.
"""

import os
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from operator import methodcaller
from pathlib import Path
from typing import Final

from jobrt._core.database_url import migrate_remedy
from jobrt._storage.sqlite.filters import register_functions
from jobrt.errors import SchemaError, StorageError, StorageUnavailable

MEMORY: Final = ":memory:"

# 3.37 added STRICT tables. RETURNING (3.35) and upserts are older.
_NEEDED: Final = (3, 37, 0)

BUSY: Final = 0.2
"""Seconds that SQLite itself waits for a lock. Callers do the rest of the waiting, so that it can be cancelled."""

PATIENCE: Final = 30.0
"""Total seconds to wait for a lock before an error is raised."""

_LONGEST_PAUSE: Final = 0.05
"""Seconds. With SQLite's own pauses this is less than `turns.GAP`, so no such gap is missed."""

_LOG_LIMIT: Final = 4 * 2**20
"""Bytes that the write-ahead log keeps of its file when it begins anew. It is cut by hand at four times as many."""

_BUSY_CODES: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_TRANSIENT: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk cannot be read or written",
    sqlite3.SQLITE_NOMEM: "memory is exhausted",
    sqlite3.SQLITE_PROTOCOL: "the file is locked in a way that SQLite does not understand",
    sqlite3.SQLITE_INTERRUPT: "the call was interrupted",
}
_PERMANENT: Final = {
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database",
    sqlite3.SQLITE_CORRUPT: "the database is damaged; restore it, or try sqlite3's .recover",
    sqlite3.SQLITE_READONLY: "the file or its folder cannot be written",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_PERM: "access is denied",
}


class Busy(StorageUnavailable):
    """Raised when another connection holds the lock: nothing was done, so the call can be repeated."""


def refusal(error: sqlite3.Error, place: str, *, file: str) -> StorageError:
    """Return the jobrt error for an error of the driver; `place` names the connection, and `file` its file."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _BUSY_CODES:
        return Busy(f"{place}: the database is locked by another connection (of this program or another one)")
    if code in _TRANSIENT:
        return StorageUnavailable(f"{place}: {_TRANSIENT[code]} ({error})")
    if code in _PERMANENT:
        return StorageError(f"{place}: {_PERMANENT[code]}")
    if "no such table: jobrt_" in str(error) or "no such column" in str(error):
        return SchemaError(f"{place}: {error}: {remedy_for(file)}")
    return StorageError(f"{place}: {error}")


def of_a_row(error: Exception) -> bool:
    """Return whether a single row may be the cause of an error, and not the file, its tables or its disk."""
    if not isinstance(error, sqlite3.Error):
        return True
    found = refusal(error, "", file="")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return code not in _PERMANENT and not isinstance(found, StorageUnavailable | SchemaError)


def remedy_for(place: str) -> str:
    """Return the remedy for a file that is not migrated. Its path is absolute: a relative one may name another file."""
    return migrate_remedy(f"sqlite:///{place if place == MEMORY else Path(place).absolute()}")


@contextmanager
def translated(place: str, *, file: str | None = None) -> Generator[None]:
    """Convert the driver's errors to jobrt's, with the original as ``__cause__``. By default `place` is the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise refusal(error, place, file=place if file is None else file) from error
    except UnicodeEncodeError as error:
        raise StorageError(f"{place}: a text cannot be stored: {error}") from error


@contextmanager
def rolled_back(connection: sqlite3.Connection) -> Generator[None]:
    """Roll back an open transaction if the block raises. Some errors, such as a full disk, have already done so."""
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.rollback()
        raise


def pauses() -> Iterator[float]:
    """Yield the seconds between attempts to get a lock, in addition to SQLite's own wait."""
    pause = 0.005
    while True:
        yield pause
        pause = min(pause * 2, _LONGEST_PAUSE)


def connect(path: str, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file; the connection may be used from any thread, but only by one at a time.

    WAL with ``synchronous=FULL``: a commit that was reported survives a power cut. ``:memory:`` needs neither.

    Raises:
        Busy: another connection is switching the file to WAL.
        StorageError: the file cannot be used; the message says why, in one line.

    """
    _check_place(path)
    if path != MEMORY and not read_only:
        _create(path)
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


_decoded: Final = methodcaller("decode", "utf-8", "surrogateescape")
"""Decoder of texts that takes any bytes. The driver's own raises an error for the whole result, and the row is lost."""


def _prepare(connection: sqlite3.Connection, *, memory: bool, read_only: bool) -> None:
    connection.text_factory = _decoded
    connection.execute("PRAGMA foreign_keys = ON")
    register_functions(connection)
    if not memory:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT}").fetchone()
    if read_only:
        connection.execute("PRAGMA query_only = ON")


def _create(path: str) -> None:
    """Create the file unless it is there. SQLite would let every user of the machine read what jobs are given.

    The umask may allow or refuse the group. SQLite gives the files beside it the same permissions. A failure is left
    for SQLite to report.
    """
    with suppress(OSError):
        os.close(os.open(os.path.realpath(path), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o660))


def shorten_log(path: str) -> None:
    """Copy the write-ahead log into the database and empty it, if it is long.

    First as far as that hinders nobody; then the rest, while writers wait. If readers need the log, it stays.
    """
    log = Path(f"{os.path.realpath(path)}-wal")
    if not log.exists() or log.stat().st_size < 4 * _LOG_LIMIT:
        return
    with translated(path), closing(connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _check_place(path: str) -> None:
    """Raise a clear error where SQLite would only say "unable to open database file"."""
    if sqlite3.sqlite_version_info < _NEEDED:
        needed = ".".join(map(str, _NEEDED))
        raise StorageError(f"this Python has SQLite {sqlite3.sqlite_version}, jobrt needs {needed} or newer")
    if path == MEMORY:
        return
    file = Path(path)
    if file.is_dir():
        raise StorageError(f"{path} is a folder; use the path of a file")
    if not file.parent.is_dir():
        raise StorageError(f"{path}: there is no folder {file.parent}; create it first")
