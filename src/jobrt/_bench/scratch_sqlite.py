"""A folder for a while on the disk where a SQLite file is, and what SQLite is there."""

import shutil
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from jobrt._storage.sqlite.connection import MEMORY, connect
from jobrt.errors import StorageError

_SYNCHRONOUS: Final = ("OFF", "NORMAL", "FULL", "EXTRA")


@contextmanager
def folder_beside(path: str, name: str) -> Generator[str]:
    """Make a folder beside a file, which need not be there, and yield the path of a file to make in it.

    Raises:
        StorageError: there is no such file, as it is in memory, or the folder cannot be made or removed.

    """
    if path == MEMORY:
        raise StorageError("a database in memory is on no disk: name a file, sqlite:///FILE")
    folder = Path(path).absolute().parent / name
    try:
        folder.mkdir()
    except OSError as error:
        raise StorageError(f"{folder.parent}: cannot make a folder in it: {error.strerror}") from error
    try:
        yield str(folder / "jobs.db")
    finally:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise StorageError(f"{folder}: cannot be removed: {error.strerror}") from error


def about(path: str) -> dict[str, str]:
    """Return what SQLite is, and how it commits in such a file."""
    with closing(connect(path)) as connection:
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
    return {
        "SQLite": sqlite3.sqlite_version,
        "synchronous": _SYNCHRONOUS[synchronous],
        "journal_mode": journal,
    }
