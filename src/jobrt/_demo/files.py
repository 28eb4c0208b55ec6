"""Files of a directory: every regular file, in a fixed order."""

from __future__ import annotations

import os
import stat
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

_INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders below the standard library that hold packages of others."""


def standard_library() -> Path:
    """Return the directory of Python's standard library."""
    return Path(sysconfig.get_path("stdlib")).resolve()


def resolve_directory(directory: Path) -> str:
    """Return the absolute path of a directory.

    Raises:
        OSError: there is none, or it cannot be read.

    """
    if not stat.S_ISDIR(directory.stat().st_mode):
        raise NotADirectoryError(0, "it is not a directory", str(directory))
    return str(directory.resolve())


def walk(root: str, *, on_error: Callable[[OSError], object]) -> Iterator[Path]:
    """Yield every regular file below `root`, sorted within each folder. Links are not followed.

    Packages that are installed below the standard library are no part of it.

    Args:
        root: an absolute path.
        on_error: is called for each folder or file that cannot be read; it is left out.

    """
    excluded = _INSTALLED if root == str(standard_library()) else frozenset[str]()
    for folder, names, files in os.walk(root, onerror=on_error):
        names[:] = sorted(set(names) - excluded)
        for name in sorted(files):
            path = Path(folder, name)
            try:
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path
            except OSError as error:
                on_error(error)
