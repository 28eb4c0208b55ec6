"""A small disk that can be filled: a file system in memory, where this process may mount one."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Disk", "small_disk"]

_BLOCK = 1 << 16


@attrs.frozen
class Disk:
    """A folder with little room; ``refused`` says why there is none."""

    folder: Path
    refused: str = ""

    def fill(self) -> None:
        """Write a file until there is no more room, to the last byte."""
        with (self.folder / "filler").open("ab", buffering=0) as file:
            size = _BLOCK
            while size:
                try:
                    file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def empty(self) -> None:
        """Remove the file."""
        (self.folder / "filler").unlink(missing_ok=True)


@contextmanager
def small_disk(megabytes: int) -> Iterator[Disk]:
    """Mount a disk for the time of the block; without the right to mount, yield an ordinary folder and say why."""
    folder = Path(tempfile.mkdtemp(prefix="jobrt-chaos-disk-"))
    refused = _mount(folder, megabytes)
    try:
        folder.chmod(0o755)
        yield Disk(folder, refused)
    finally:
        if not refused:
            subprocess.run(["umount", "--lazy", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _mount(folder: Path, megabytes: int) -> str:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root on Linux may mount a small disk"
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""
