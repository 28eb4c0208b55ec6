"""Wake-ups between processes: each listener has a Unix datagram socket in a folder beside the file.

Who commits something that others wait for sends a byte to each socket there. A byte means: look whether somebody has
committed. So a lost or a false one does no harm, and nobody can learn or change anything by it. Where there are no such
sockets, or none can be made, polling alone finds the change.
"""

from __future__ import annotations

import os
import secrets
import socket
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import attrs

from jobrt._storage.sqlite.transaction import Transaction

WORK: Final = b"w"
"""There are jobs to run, or news for workers."""
ENDED: Final = b"e"
"""Jobs have ended."""
NEWS: Final = b"n"
"""Jobs have news for those who follow them, and nothing else concerns others."""
SOON: Final = b"s"
"""A caller's transaction has new jobs. When it commits is not known, so look often for a while."""

_FOLLOWS: Final = ".n"
"""End of the name of a socket that gets `NEWS`."""

_LONGEST: Final = 100
"""Bytes of a socket's path that every system takes; Linux takes 107, macOS 103."""

_SUPPORTED: Final = os.name == "posix" and hasattr(socket, "AF_UNIX")


def word_for(tx: Transaction) -> bytes | None:
    """Return what to tell other processes after the commit of a transaction; None if nothing concerns them."""
    if tx.queues or tx.control:
        return WORK
    if tx.ended:
        return ENDED
    return NEWS if tx.news else None


@attrs.frozen
class Ear:
    """Socket of a listener, and the path of its file."""

    path: str
    socket: socket.socket

    def missing(self) -> bool:
        """Return whether the file was removed, so that nobody can send to it any more."""
        return not os.path.lexists(self.path)


@attrs.frozen
class Sockets:
    """The sockets of all listeners of a database file."""

    file: str
    folder: str
    own: set[str] = attrs.field(factory=set[str])
    """Names of the sockets that this object has made. Nothing is sent to them but `SOON`."""

    @classmethod
    def of(cls, file: str) -> Sockets:
        """Return the sockets of a file. The folder is beside the target of a link, as SQLite's own files are."""
        return cls(file, f"{os.path.realpath(file)}-wake")

    def send(self, word: bytes) -> None:
        """Send a word to all listeners of others. It never waits: who has many words unread will look anyway.

        A socket whose process is gone is removed.
        """
        try:
            names = os.listdir(self.folder) if _SUPPORTED else []  # noqa: PTH208 - done after each commit
        except OSError:  # nobody has listened yet, or this user may not tell them
            return
        others = [name for name in names if word == SOON or name not in self.own]
        if word == NEWS:
            others = [name for name in others if name.endswith(_FOLLOWS)]
        if others:
            with suppress(OSError), _reachable(self.folder) as folder, _new_socket() as sender:
                for name in others:
                    _send(sender, f"{folder}/{name}", word)

    @contextmanager
    def listening(self, *, news: bool = False) -> Generator[Ear | None]:
        """Make a socket for the block, which gets `NEWS` if `news` is true; None if that cannot be done here."""
        ear = self._made(_FOLLOWS if news else "") if _SUPPORTED else None
        if ear is None:
            yield None
            return
        name = Path(ear.path).name
        self.own.add(name)
        try:
            yield ear
        finally:
            ear.socket.close()
            self.own.discard(name)
            with suppress(OSError):
                Path(ear.path).unlink()
            with suppress(OSError):  # others listen
                Path(self.folder).rmdir()

    def _made(self, suffix: str) -> Ear | None:
        for _ in range(3):  # the last listener may remove the folder at the same moment
            try:
                return self._bound(suffix)
            except FileNotFoundError:
                continue
            except OSError:
                break
        return None

    def _bound(self, suffix: str) -> Ear:
        """Make a socket to which only those can send who may write the file.

        Raises:
            OSError: it cannot be made.

        """
        file = Path(self.file).stat()
        _make_folder(self.folder, file)
        name = f"{os.getpid()}.{secrets.token_hex(4)}{suffix}"
        with _reachable(self.folder) as folder:
            made = _new_socket()
            try:
                made.bind(f"{folder}/{name}")
                _adapt(f"{folder}/{name}", file, mode=file.st_mode & 0o666)
            except BaseException:
                made.close()
                raise
        return Ear(f"{self.folder}/{name}", made)


def _make_folder(folder: str, file: os.stat_result) -> None:
    mode = (file.st_mode & 0o666) | (file.st_mode & 0o444) >> 2  # who may read the file may enter
    try:
        Path(folder).mkdir(mode)
    except FileExistsError:
        if not stat.S_ISDIR(Path(folder).lstat().st_mode):  # a link may lead to a folder of somebody else
            raise
    else:
        _adapt(folder, file, mode=mode)


def _adapt(path: str, file: os.stat_result, *, mode: int) -> None:
    """Set permissions, and give what a superuser has made to the owner of the file, as SQLite does with its own."""
    Path(path).chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, file.st_uid, file.st_gid)


def _new_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.settimeout(0)
    return made


def _send(sender: socket.socket, path: str, word: bytes) -> None:
    with suppress(OSError):  # its buffer is full, or it has just been removed
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):  # never through a link
            return
        try:
            sender.sendto(word, path)
        except ConnectionRefusedError:
            Path(path).unlink()


@contextmanager
def _reachable(folder: str) -> Generator[str]:
    """Return a path of the folder that is short enough for the addresses of sockets.

    Linux has a short one for each folder that is open.

    Raises:
        OSError: there is none.

    """
    if len(os.fsencode(folder)) + len("/4294967296.12345678.n") <= _LONGEST:
        yield folder
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{opened}"
    finally:
        os.close(opened)
