"""Wake-ups between processes: sockets beside the file, and polling where there are none."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from jobrt._core import where
from jobrt._storage.sqlite import open_blocking, open_sqlite, sockets, wakes
from jobrt._storage.sqlite.sockets import WORK, Sockets
from tests.conformance.build import job

if TYPE_CHECKING:
    from jobrt._storage.contract import Storage, Wake

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Unix sockets")

PATIENCE = 30


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database file that is not there yet."""
    return tmp_path / "jobs.db"


@pytest.fixture
def never_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener with a socket looks only when it is told to."""
    monkeypatch.setattr(wakes, "_TOLD_POLL", 1e9)
    monkeypatch.setattr(wakes, "_TOLD_IDLE_POLL", 1e9)


@asynccontextmanager
async def listening(path: Path) -> AsyncGenerator[tuple[Storage, trio.MemoryReceiveChannel[Wake]]]:
    """Listen on a storage as one process, and receive its wakes; the first look at the file is over."""
    told, wakes = trio.open_memory_channel["Wake"](1000)
    async with open_sqlite(path) as storage, trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            await nursery.start(storage.wakes.listen, told.send_nowait)
            await trio.testing.wait_all_tasks_blocked()
        yield storage, wakes
        nursery.cancel_scope.cancel()


async def heard(wakes: trio.MemoryReceiveChannel[Wake], kind: str) -> None:
    """Wait until a wake of a kind comes."""
    with trio.fail_after(PATIENCE):
        async for wake in wakes:
            if wake.kind == kind:
                return


async def test_commits_of_others_are_told(path: Path, never_polls: None) -> None:
    """A new job, a change for workers and an awaited end wake the listener in another process at once."""
    async with listening(path) as (own, wakes), open_sqlite(path) as other:
        (added,) = await other.jobs.insert([job()])
        await heard(wakes, "jobs")
        await own.jobs.await_final([added.id])
        await other.jobs.cancel(where.id_in([added.id]), "over")
        await heard(wakes, "finished")
        await other.queues.set("default", paused=True)
        await heard(wakes, "control")


async def test_threads_and_held_transactions_tell(path: Path, never_polls: None) -> None:
    """The client of threads, and a transaction that a program holds, tell others after their commits."""
    async with listening(path) as (_, wakes), open_sqlite(path) as other:
        with open_blocking(path) as client:
            await trio.to_thread.run_sync(client.insert, [job()])
        await heard(wakes, "jobs")
        async with other.jobs.transaction() as conn:
            await other.jobs.insert([job()], conn=conn)
        await heard(wakes, "jobs")


async def test_a_callers_transaction_is_expected(path: Path, never_polls: None) -> None:
    """Nobody tells of the commit of a connection of the caller, so listeners look often after its insert."""
    async with listening(path) as (_, wakes), open_sqlite(path) as other:
        with closing(sqlite3.connect(path)) as conn:
            await other.jobs.insert([job()], conn=conn)
            conn.commit()
        await heard(wakes, "jobs")
        with open_blocking(path) as client, closing(sqlite3.connect(path)) as conn:
            client.insert([job()], conn=conn)
            conn.commit()
        await heard(wakes, "jobs")


async def test_ends_that_nobody_awaits_are_not_looked_at(path: Path, never_polls: None) -> None:
    """A listener in whose process no job's end is awaited is not woken by ends, which are many."""
    async with listening(path) as (_, wakes), open_sqlite(path) as other:
        (added,) = await other.jobs.insert([job(name="other")])
        await heard(wakes, "finished")
        assert await other.jobs.delete(where.id_in([added.id])) == 1
        await trio.testing.wait_all_tasks_blocked(0.05)
        await other.jobs.insert([job()])
        await heard(wakes, "jobs")
        await heard(wakes, "finished")
        with pytest.raises(trio.WouldBlock):
            wakes.receive_nowait()


async def test_what_a_stopped_listener_leaves(path: Path) -> None:
    """The last listener that stops removes its socket and the folder; others keep theirs."""
    folder = path.with_name("jobs.db-wake")
    async with listening(path):
        async with listening(path):
            assert len(list(folder.iterdir())) == 2
        assert len(list(folder.iterdir())) == 1
    assert not folder.exists()


@pytest.mark.parametrize(("mode", "expected"), [(0o600, 0o700), (0o660, 0o770), (0o664, 0o775)])
def test_permissions_are_those_of_the_file(path: Path, mode: int, expected: int) -> None:
    """Who may write the file may tell its listeners, and nobody else."""
    path.touch()
    path.chmod(mode)
    with Sockets.of(str(path)).listening():
        folder = path.with_name("jobs.db-wake")
        assert stat.S_IMODE(folder.stat().st_mode) == expected
        (ear,) = folder.iterdir()
        assert stat.S_IMODE(ear.stat().st_mode) == mode


async def test_a_socket_without_a_process_is_removed(path: Path, never_polls: None) -> None:
    """What a killed process left is removed by the next who tells; files that are no sockets stay."""
    folder = path.with_name("jobs.db-wake")
    folder.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(folder / "dead"))
    (folder / "notes").write_text("mine", encoding="utf-8")
    async with listening(path) as (_, wakes), open_sqlite(path) as other:
        await other.jobs.insert([job()])
        await heard(wakes, "jobs")
        assert not (folder / "dead").exists()
    assert [left.name for left in folder.iterdir()] == ["notes"]


def test_nothing_is_sent_through_links(tmp_path: Path) -> None:
    """A link in the folder, to a socket of somebody else, gets nothing; nor does a link in place of the folder."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.setblocking(False)
        theirs.bind(str(tmp_path / "theirs"))
        ours = Sockets.of(str(tmp_path / "jobs.db"))
        folder = Path(ours.folder)
        folder.mkdir()
        (folder / "link").symlink_to(tmp_path / "theirs")
        ours.send(WORK)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
        assert (folder / "link").is_symlink()


def test_a_listener_that_does_not_read_delays_nobody(tmp_path: Path) -> None:
    """Words for a process that stands still are dropped when its buffer is full."""
    ours = Sockets.of(str(tmp_path / "jobs.db"))
    (tmp_path / "jobs.db").touch()
    with ours.listening() as ear:
        assert ear is not None
        teller = Sockets.of(ours.file)
        for _ in range(2000):
            teller.send(WORK)
        assert ear.socket.recv(10) == WORK


async def test_a_path_that_is_too_long_for_an_address(tmp_path: Path, never_polls: None) -> None:
    """On Linux a folder of any length works. Elsewhere polling finds the job."""
    deep = tmp_path.joinpath(*["a-rather-long-name"] * 10)
    deep.mkdir(parents=True)
    async with listening(deep / "jobs.db") as (_, wakes), open_sqlite(deep / "jobs.db") as other:
        await other.jobs.insert([job()])
        await heard(wakes, "jobs")
    assert not deep.joinpath("jobs.db-wake").exists()


async def test_links_to_the_file_share_its_sockets(path: Path, never_polls: None) -> None:
    """The folder is beside the file itself, by whatever link it is opened."""
    link = path.with_name("link.db")
    async with listening(path) as (_, wakes):
        link.symlink_to(path)
        async with open_sqlite(link) as other:
            await other.jobs.insert([job()])
        await heard(wakes, "jobs")


@pytest.mark.parametrize("what", ["a file", "a link", "no support"])
async def test_without_a_socket_polling_finds_it(
    path: Path, never_polls: None, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Where no socket can be made, a listener looks as often as it must."""
    folder = path.with_name("jobs.db-wake")
    if what == "a file":
        folder.touch()
    elif what == "a link":
        path.with_name("elsewhere").mkdir()
        folder.symlink_to(path.with_name("elsewhere"))
    else:
        monkeypatch.setattr(sockets, "_SUPPORTED", False)
    async with listening(path) as (_, wakes), open_sqlite(path) as other:
        await other.jobs.insert([job()])
        await heard(wakes, "jobs")
    assert what != "a link" or not any(path.with_name("elsewhere").iterdir())


async def test_a_folder_that_was_deleted_is_made_again(path: Path) -> None:
    """A listener whose socket was removed makes another one at its next look."""
    folder = path.with_name("jobs.db-wake")
    async with listening(path):
        (ear,) = folder.iterdir()
        ear.unlink()
        folder.rmdir()
        with trio.fail_after(PATIENCE):
            while not folder.exists():
                await trio.sleep(0.01)


async def test_a_folder_that_vanishes_meanwhile_is_made_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last listener may remove the folder just before another one makes its socket in it."""
    make, calls = sockets._make_folder, list[str]()

    def made(folder: str, file: os.stat_result) -> None:
        make(folder, file)
        calls.append(folder)
        if len(calls) == 1:
            Path(folder).rmdir()

    monkeypatch.setattr(sockets, "_make_folder", made)
    async with listening(path):
        assert len(calls) == 2
        assert os.path.isdir(calls[0])  # noqa: ASYNC240, PTH112


async def test_a_database_in_its_place_has_the_same_listeners(path: Path, tmp_path: Path) -> None:
    """When another file takes the place of the open one, who listens is told of its commits."""
    async with open_sqlite(tmp_path / "new.db"):
        pass
    async with listening(path) as (own, wakes):
        for name in ("jobs.db-wal", "jobs.db-shm"):
            path.with_name(name).unlink(missing_ok=True)
        (tmp_path / "new.db").replace(path)
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    await own.jobs.count(where.everything())
                    break
                except Exception:  # noqa: BLE001 - says once that it was replaced
                    await trio.sleep(0.01)
        async with open_sqlite(path) as other:
            await other.jobs.insert([job()])
        await heard(wakes, "jobs")
