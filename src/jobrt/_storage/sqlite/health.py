"""Health of a SQLite file: whether it can be written, who holds its lock, its disk and its write-ahead log."""

import math
import os
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from jobrt._core.health import QueueLoad, Vitals
from jobrt._core.keys import labelled
from jobrt._core.limits import limit_key
from jobrt._core.rates import FREE, Bucket
from jobrt._storage.sqlite.connection import MEMORY, Busy, connect, pauses, translated
from jobrt._storage.sqlite.database import Database
from jobrt._storage.sqlite.rows import dumps
from jobrt._storage.sqlite.transaction import SQL, Transaction
from jobrt.errors import StorageUnavailable

_PROBE_BYTES: Final = 1 << 18
"""Size of the value that is written. It does not fit into the cache of `_probe`, so it goes to the disk at once."""
_LOCK: Final = re.compile(r" WRITE (\d+) \S+:(\d+) (\d+) (\d+|EOF)$")
"""Line of ``/proc/locks``: process, inode, first and last byte."""
_WRITE_LOCK: Final = 120
"""Byte of the ``-shm`` file that a writer locks, from SQLite's documentation of the WAL format."""


@attrs.frozen
class SqliteHealth:
    """Implementation of `HealthStore`."""

    _database: Database

    async def try_write(self, *, seconds: float) -> None:
        path = self._database.path
        if path == MEMORY:
            await trio.lowlevel.checkpoint()
            return
        with trio.move_on_after(seconds):
            for pause in pauses():
                with suppress(Busy):
                    await trio.to_thread.run_sync(_probe, path)
                    return
                await trio.sleep(pause)
        holders = ", ".join(await trio.to_thread.run_sync(_lock_holders, path)) or "another program"
        raise StorageUnavailable(f"{path}: locked for writing by {holders} for more than {seconds:g} s")

    async def vitals(self) -> Vitals:
        path = self._database.path
        return Vitals() if path == MEMORY else await trio.to_thread.run_sync(_vitals, path)

    async def queue_load(self, queue: str, *, key: str | None, limit: int) -> QueueLoad:
        return await self._database.read(partial(_queue_load, queue=queue, key=key, limit=limit))


def _probe(path: str) -> None:
    """Write more than the cache holds, and roll back. A commit would be needed for nothing but to keep it."""
    with closing(connect(path)) as connection, translated(path):
        connection.execute("PRAGMA cache_size = 10")
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute("CREATE TABLE jobrt_probe (value BLOB)")
            connection.execute("INSERT INTO jobrt_probe VALUES (zeroblob(?))", (_PROBE_BYTES,))
        finally:
            with suppress(sqlite3.Error):  # some errors have rolled back already
                connection.execute("ROLLBACK")


def _lock_holders(path: str) -> list[str]:
    """Return the processes with the write lock, where the system lists locks."""
    try:
        inode = os.stat(f"{path}-shm").st_ino  # noqa: PTH116 - the path may have any bytes
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    found = (_LOCK.search(line) for line in lines)
    locks = (match.groups() for match in found if match and int(match[2]) == inode)
    return [
        f"process {pid}{_program(pid)}"
        for pid, _, start, end in locks
        if int(start) <= _WRITE_LOCK <= _end(end)
    ]


def _end(text: str) -> float:
    return math.inf if text == "EOF" else int(text)


def _program(pid: str) -> str:
    with suppress(OSError):
        return f" ({Path('/proc', pid, 'comm').read_text(errors='replace').strip()})"
    return ""


def _vitals(path: str) -> Vitals:
    disk = shutil.disk_usage(os.path.dirname(path) or ".")  # noqa: PTH120 - the path may have any bytes
    wal = None
    with suppress(OSError):
        wal = os.stat(f"{path}-wal").st_size  # noqa: PTH116 - as above
    return Vitals(disk_free=disk.free, disk_total=disk.total, wal=wal)


def _queue_load(tx: Transaction, queue: str, *, key: str | None, limit: int) -> QueueLoad:
    values = {"queue": queue, "now": tx.now, "limit": limit, "payloads": key not in {None, "name"}}
    due = _counted(tx.array(SQL["health/due"], values), key)
    return QueueLoad(
        running=_counted([row[1:4] for row in tx.array(SQL["attempts/exchange_running"], (queue,))], key),
        due=due,
        buckets=_buckets(tx, queue, key=key, due=due),
    )


def _buckets(
    tx: Transaction, queue: str, *, key: str | None, due: Iterable[tuple[str, str]]
) -> dict[str | None, Bucket]:
    """Return the tokens of a queue and of the keys of due jobs; a hold of the queue is that of its bucket."""
    values: dict[str, str | None] = {"": None}
    if key is not None:
        values |= {labelled(key, value): value for _, value in due}
    rows = tx.array(SQL["attempts/limited_buckets"], {"queue": queue, "keys": dumps(list(values))})
    found = {
        values[name]: Bucket(at - tx.now, parts, unit, until - tx.now)
        for name, at, parts, unit, until in rows
    }
    if (held := tx.value(SQL["attempts/exchange_held"], {"queue": queue, "now": tx.now})) is not None:
        found[None] = attrs.evolve(found.get(None, FREE), held_until=held - tx.now)
    return found


def _counted(rows: list[list[str | None]], key: str | None) -> Counter[tuple[str, str]]:
    return Counter(
        (
            name or "",
            "" if key is None else limit_key(key, name or "", args=args or "", metadata=metadata or ""),
        )
        for name, args, metadata in rows
    )
