"""The database is what the path names: a file that is deleted, moved or replaced is noticed at the next call."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from jobrt._storage.contract import DatabaseReplaced
from jobrt._storage.sqlite import file_watch, open_blocking, open_sqlite
from jobrt._storage.sqlite.file_watch import FileGone
from jobrt.errors import StorageUnavailable
from tests.conformance.build import ask, job, start
from tests.storage.sqlite.files import PATIENCE
from tests.support.worker_info import worker_info

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobrt._storage.contract import Storage


async def transact(storage: Storage) -> None:
    """Write a job in a transaction of a program's own."""
    async with storage.jobs.transaction() as conn:
        await storage.jobs.insert([job()], conn=conn)


CALLS: dict[str, Callable[[Storage], object]] = {
    "insert": lambda storage: storage.jobs.insert([job()]),
    "transaction": transact,
    "get": lambda storage: storage.jobs.get(1),
    "claim": lambda storage: storage.attempts.exchange([], ask()),
    "beat": lambda storage: storage.workers.beat("w1", lease=30.0, info=worker_info()),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is not there yet, in a folder of its own."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "jobs.db"


def remove(path: Path) -> None:
    """Delete the database and what is beside it, as people do to begin anew."""
    for file in path.parent.iterdir():
        file.unlink()


def write(path: Path) -> None:
    """Put some other file there."""
    path.write_text("nothing but text\n" * 1000)


def make(path: Path) -> None:
    """Make an empty, migrated database unless there is one, as another program does when it starts."""
    with open_blocking(path):
        pass


def link_to(target: Path, link: Path) -> None:
    """Make a link, or have it lead elsewhere."""
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def move(path: Path, to: Path) -> None:
    """Move the database alone."""
    path.rename(to)


@pytest.mark.parametrize("name", CALLS)
async def test_every_call_notices_that_the_file_is_gone(path: Path, name: str) -> None:
    """It says so instead of going on in a file that nobody can see; nothing is made in its place."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            remove(path)
            for _ in range(2):
                with pytest.raises(
                    FileGone, match=r"jobs\.db: the file was deleted or moved.*nothing was done"
                ):
                    await CALLS[name](storage)  # type: ignore[misc]
        assert list(path.parent.iterdir()) == []


async def test_a_transaction_notices_that_the_file_is_gone(path: Path) -> None:
    """At its end, too: what was written since is not acknowledged."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            with pytest.raises(FileGone):
                async with storage.jobs.transaction() as conn:
                    await storage.jobs.insert([job()], conn=conn)
                    remove(path)


async def test_a_file_that_is_put_back_is_used_again(path: Path, tmp_path: Path) -> None:
    """Moved away and back, it is the same file, with all that was in it."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            (made,) = await storage.jobs.insert([job()])
            move(path, tmp_path / "elsewhere.db")
            with pytest.raises(FileGone):
                await storage.jobs.insert([job()])
            move(tmp_path / "elsewhere.db", path)
            assert await storage.jobs.get(made.id) is not None
            (next_one,) = await storage.jobs.insert([job()])
            assert next_one.id == made.id + 1


@pytest.mark.parametrize("name", CALLS)
async def test_a_new_file_is_opened_at_the_second_call(path: Path, name: str) -> None:
    """The first call says that the file was replaced, whichever call it is; from then on the new one is used."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            await storage.jobs.insert([job(), job()])
            remove(path)
            make(path)
            with pytest.raises(DatabaseReplaced, match=r"another file has taken the place.*try again"):
                await CALLS[name](storage)  # type: ignore[misc]
            (made,) = await storage.jobs.insert([job()])
            assert made.id == 1
            with closing(sqlite3.connect(path)) as other:
                assert other.execute("select count(*) from jobrt_job").fetchone() == (1,)
                assert other.execute("pragma integrity_check").fetchone() == ("ok",)


async def test_workers_claim_in_the_new_file_when_they_have_registered(path: Path) -> None:
    """Nobody there knows the worker, so what it claimed before would be taken from it as a dead worker's."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            await storage.workers.register("w1", lease=30.0, info=worker_info())
            await start(storage)
            remove(path)
            make(path)
            with pytest.raises(DatabaseReplaced):
                await storage.jobs.insert([job()])
            await storage.jobs.insert([job()])
            assert (await storage.attempts.exchange([], ask())).jobs == ()
            assert (await storage.workers.beat("w1", lease=30.0, info=worker_info())).known is False
            await storage.workers.register("w2", lease=30.0, info=worker_info())
            assert len((await storage.attempts.exchange([], ask(worker="w2"))).jobs) == 1


async def test_a_file_that_cannot_be_used_is_not_opened(path: Path) -> None:
    """One without tables, one that is still being copied: it says why, and looks again at the next call."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            remove(path)
            write(path)
            with pytest.raises(StorageUnavailable, match=r"taken the place.*not a SQLite database"):
                await storage.jobs.insert([job()])
            remove(path)
            with closing(sqlite3.connect(path)) as other:
                other.execute("create table mine (n)")
            with pytest.raises(StorageUnavailable, match=r"taken the place.*lacks migration.* migrate`"):
                await storage.jobs.insert([job()])
            make(path)
            with pytest.raises(DatabaseReplaced):
                await storage.jobs.insert([job()])
            assert len(await storage.jobs.insert([job()])) == 1


async def test_a_restored_copy_beside_the_old_log_is_not_opened(path: Path, tmp_path: Path) -> None:
    """SQLite would write the pages of the old log into the copy. The message says which files to delete."""
    make(path)
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            await storage.jobs.insert([job()])
            move(copy, path)
            with pytest.raises(StorageUnavailable, match=r"jobs\.db-wal and .*jobs\.db-shm still belong to"):
                await storage.jobs.insert([job()])
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink()
            with pytest.raises(DatabaseReplaced):
                await storage.jobs.insert([job()])
            assert len(await storage.jobs.insert([job()])) == 1
            with closing(sqlite3.connect(path)) as other:
                assert other.execute("pragma integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
async def test_the_files_beside_the_database_are_watched(
    path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its log the database is as good as gone: others would not see what is written."""
    monkeypatch.setattr(file_watch, "_LOG_SECONDS", 0.0)
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            await storage.jobs.insert([job()])
            path.with_name(path.name + suffix).unlink()
            with pytest.raises(FileGone, match=rf"jobs\.db{suffix}: was deleted"):
                await storage.jobs.insert([job()])


async def test_a_relative_path_stays_what_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may change its working directory; its transactions still find the file."""
    monkeypatch.chdir(path.parent)
    with trio.fail_after(PATIENCE):
        async with open_sqlite("jobs.db") as storage:
            monkeypatch.chdir("/")
            async with storage.jobs.transaction() as conn:
                await storage.jobs.insert([job()], conn=conn)
            assert len(await storage.jobs.insert([job()])) == 1


async def test_a_link_is_followed(path: Path, tmp_path: Path) -> None:
    """The log is beside the file that a link names, and a link to another file is another database."""
    link = tmp_path / "link.db"
    link_to(path, link)
    other = tmp_path / "other.db"
    make(other)
    with trio.fail_after(PATIENCE):
        async with open_sqlite(link) as storage:
            await storage.jobs.insert([job()])
            link_to(other, link)
            with pytest.raises(DatabaseReplaced):
                await storage.jobs.insert([job()])
            assert (await storage.jobs.insert([job()]))[0].id == 1


def _move(path: Path, name: str) -> None:
    """Move the database with all that is beside it to another name in the folder above, or back."""
    here, there = (path, path.parent.parent / name)
    if not here.exists():
        here, there = there, here
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.rename(f"{here}{suffix}", f"{there}{suffix}")  # noqa: PTH104 - names with suffixes


STEPS: dict[str, Callable[[Path], None]] = {
    "delete all": remove,
    "delete the file": lambda path: path.unlink(missing_ok=True),
    "make": make,
    "swap with a": lambda path: _move(path, "a.db"),
    "swap with b": lambda path: _move(path, "b.db"),
}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([*STEPS, "insert", "insert"]), max_size=10))
async def test_what_is_acknowledged_is_where_the_path_leads(steps: list[str]) -> None:
    """Whatever happens to the files, a job that was enqueued is in the database that others find at the path."""
    with TemporaryDirectory() as folder, trio.fail_after(PATIENCE):
        path = Path(folder, "data", "jobs.db")
        path.parent.mkdir()
        async with AsyncExitStack() as stack:
            storage = await stack.enter_async_context(open_sqlite(path))
            for n, step in enumerate(steps):
                if step != "insert":
                    STEPS[step](path)
                    continue
                try:
                    (made,) = await storage.jobs.insert([job(context=str(n))])
                except StorageUnavailable:
                    continue
                with closing(sqlite3.connect(path)) as other:
                    sql = "select context from jobrt_job where id = ?"
                    assert other.execute(sql, (made.id,)).fetchone() == (str(n),)
