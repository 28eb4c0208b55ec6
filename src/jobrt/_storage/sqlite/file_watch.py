"""Whether the path still names the file that is open.

An open file lives on when it is deleted, moved or replaced: what is written to it then is lost at the last close. A
file's device and inode tell. They are read by name. To open the file once more, and to close it, would drop the locks
that SQLite holds for this process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Final, TypeAlias

import attrs

from jobrt._core.database_url import migrate_remedy
from jobrt._storage.contract import DatabaseReplaced
from jobrt.errors import StorageError, StorageUnavailable

Identity: TypeAlias = tuple[int, int]

_LOG_SECONDS: Final = 1.0
"""Seconds between two looks at the files beside the database: they cost as much as the one at the database."""


class FileGone(StorageUnavailable):
    """Raised when the path names no file any more, or not the log of the file that is open."""


def identity(path: str) -> Identity | None:
    """Return what tells one file from another, or None if the path names none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - four times as fast as Path, and done in each transaction
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


@attrs.frozen
class FileWatch:
    """The files of an open database, as they were when it was opened.

    Args:
        path: the absolute path that was opened.
        main: identity of the database.
        beside: names of the files that SQLite keeps beside it (beside the target of a link), and their identities.

    """

    path: str
    main: Identity | None
    beside: Mapping[str, Identity | None]
    _looked: list[float] = attrs.field(factory=lambda: [time.monotonic()])

    @classmethod
    def of(cls, path: str) -> FileWatch:
        """Return the watch over a file that has just been opened."""
        return cls(path, identity(path), {name: identity(name) for name in _beside(path)})

    def check(self) -> None:
        """Raise unless the path still names the open file. Takes 2 µs.

        Raises:
            FileGone: the file, or one that belongs to it, was deleted or moved.
            DatabaseReplaced: another file is in its place.

        """
        found = identity(self.path)
        if found != self.main:
            raise _gone(self.path) if found is None else _replaced(self.path)
        if time.monotonic() > self._looked[0] + _LOG_SECONDS:
            self._check_beside()
            self._looked[0] = time.monotonic()

    def _check_beside(self) -> None:
        for name, known in self.beside.items():
            if known is not None and identity(name) != known:
                raise FileGone(
                    f"{name}: was deleted, moved or replaced while the database beside it is open, and nothing was"
                    " done: put it back, or stop all programs that use the database and start them again"
                )

    def replaced(self) -> bool:
        """Return whether another file is at the path."""
        return identity(self.path) not in {self.main, None}

    def left_behind(self) -> list[str]:
        """Return which files beside the one at the path belong to the database that was open.

        SQLite would copy the pages of such a log into the new file.
        """
        known = {found for found in self.beside.values() if found is not None}
        return [name for name in _beside(self.path) if identity(name) in known]


def _beside(path: str) -> tuple[str, str]:
    """Return the names of the files that SQLite keeps beside a database: where a link leads, if it is one."""
    target = os.path.realpath(path)
    return f"{target}-wal", f"{target}-shm"


def _gone(path: str) -> FileGone:
    return FileGone(
        f"{path}: the file was deleted or moved while it was open, and nothing was done: put it back, or make a new"
        f" one: {migrate_remedy(f'sqlite:///{path}')}"
    )


def _replaced(path: str) -> DatabaseReplaced:
    return DatabaseReplaced(
        f"{path}: another file has taken the place of the one that was open, and nothing was done"
    )


def unusable(error: StorageError) -> StorageUnavailable:
    """Return the error for a file that has taken the place of the open one, but cannot be opened."""
    return StorageUnavailable(
        f"another file has taken the place of the one that was open, and cannot be used: {error}"
    )
