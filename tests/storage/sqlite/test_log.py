"""The write-ahead log and the files themselves: how large they stay, and who may read them."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio

from jobrt._storage.sqlite import connection, open_blocking, open_sqlite
from tests.conformance.build import job
from tests.storage.sqlite.files import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jobrt._storage.contract import Storage

MEGABYTE = 2**20


def log_of(path: Path) -> Path:
    """Return the write-ahead log of a database."""
    return path.with_name(f"{path.name}-wal")


async def _fill(storage: Storage, path: Path, *, size: int) -> None:
    """Enqueue jobs until the log has this size."""
    while log_of(path).stat().st_size < size:
        await storage.jobs.insert([job(args={"pad": "x" * 10_000}) for _ in range(100)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is not there yet."""
    return tmp_path / "jobs.db"


async def test_the_log_shrinks_by_itself(path: Path) -> None:
    """Grown beside a long reader, it is cut by the first writes after that reader's end."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            with closing(sqlite3.connect(path, isolation_level=None)) as reader:
                reader.execute("begin")
                reader.execute("select count(*) from jobrt_job").fetchone()
                await _fill(storage, path, size=12 * MEGABYTE)
            for _ in range(3):
                await storage.jobs.insert([job()])
            assert log_of(path).stat().st_size <= connection._LOG_LIMIT


async def test_maintenance_empties_a_long_log(path: Path) -> None:
    """Even if nobody writes any more; beside a reader of all of it nothing happens, and nothing fails."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            with closing(sqlite3.connect(path, isolation_level=None)) as reader:
                reader.execute("begin")
                reader.execute("select count(*) from jobrt_job").fetchone()
                await _fill(storage, path, size=17 * MEGABYTE)
                await storage.workers.rescue()
                assert log_of(path).stat().st_size >= 17 * MEGABYTE
            await storage.workers.rescue()
            assert log_of(path).stat().st_size == 0
            await storage.jobs.insert([job()])


@pytest.fixture
def umask() -> Iterator[None]:
    """The usual umask, which lets everybody read new files."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
async def test_new_files_are_not_for_everybody(path: Path, umask: None) -> None:
    """Jobs carry what is nobody else's business. The umask decides about the group."""
    async with open_sqlite(path) as storage:
        await storage.jobs.insert([job()])
        files = [path, log_of(path), path.with_name(f"{path.name}-shm")]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o640}
    os.umask(0o077)
    with open_blocking(path.with_name("own.db")):
        assert stat.S_IMODE(path.with_name("own.db").stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_that_were_given_stay(path: Path, umask: None) -> None:
    """A file that was there keeps its own."""
    path.touch(mode=0o644)
    with open_blocking(path):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
