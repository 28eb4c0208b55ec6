"""A lock held by another connection delays writers, and nothing is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from jobrt._core.job import Outcome
from jobrt._core.states import State
from jobrt._core.unique import Replace, UniqueKey
from jobrt._storage.sqlite import connection, database, held, open_blocking, open_sqlite, threads
from jobrt._storage.sqlite.database import open_database
from jobrt.errors import StorageError, StorageUnavailable
from tests.conformance.build import ask, claim, job, look, ref, start
from tests.storage.sqlite.files import PATIENCE, locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobrt._storage.contract import Storage
    from jobrt._storage.sqlite.transaction import Transaction


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a file that does not exist yet."""
    return tmp_path / "jobs.db"


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> trio.Event:
    """An event that is set when a call has met a lock and waits to try again."""
    event = trio.Event()

    def signalled() -> Iterator[float]:
        pauses = connection.pauses()
        yield next(pauses)
        event.set()  # the pause after the first one is asked for when the first try was in vain
        yield from pauses

    for module in (database, threads):
        monkeypatch.setattr(module, "pauses", signalled)
    return event


async def test_an_outcome_waits_for_the_lock(path: Path, refused: trio.Event) -> None:
    """However long another program holds it, the outcome is written once, after the release."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            claimed = await start(storage)
            with locked(path) as lock:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_finish, storage, Outcome(claimed.id, claimed.lease))
                    await refused.wait()
                    assert (await look(storage, claimed.id)).state is State.EXECUTING
                    lock.release()
            assert (await look(storage, claimed.id)).state is State.COMPLETED


async def _finish(storage: Storage, outcome: Outcome) -> None:
    assert await storage.attempts.finish([outcome]) == ()


async def test_waiting_can_be_cancelled(path: Path, refused: trio.Event) -> None:
    """A call that waits for the lock can be cancelled, and then nothing was done."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            with locked(path):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(storage.jobs.insert, [job()])
                    await refused.wait()
                    nursery.cancel_scope.cancel()
            assert await claim(storage) == ()


async def test_patience_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time limit a transient error is raised, which names the file and the time."""
    monkeypatch.setattr(threads, "PATIENCE", 0.0)
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            with locked(path), pytest.raises(StorageUnavailable, match=r"jobs\.db.*locked.*seconds"):
                await storage.jobs.insert([job()])
            await storage.jobs.insert([job()])


async def test_reading_does_not_wait_for_writers(path: Path) -> None:
    """A lock held by another connection does not affect readers."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            (inserted,) = await storage.jobs.insert([job()])
            with locked(path):
                assert await storage.jobs.get(inserted.id) is not None
                assert [one.available for one in await storage.queues.all()] == [1]


async def test_a_file_opens_while_it_is_locked(path: Path) -> None:
    """Opening a file that has its tables writes nothing, so it does not wait."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path):
            pass
        with locked(path):
            async with open_sqlite(path) as storage:
                assert (await storage.schema.status()).pending == ()


async def test_a_transaction_waits_for_the_lock(path: Path, refused: trio.Event) -> None:
    """A job's own transaction takes the lock before its block runs, and waits for it as others do."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            claimed = await start(storage)
            with locked(path) as lock:

                async def release() -> None:
                    await refused.wait()
                    lock.release()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(release)
                    async with storage.attempts.transaction(
                        ref(claimed), Outcome(claimed.id, claimed.lease)
                    ) as conn:
                        await conn.execute("create table mine (n)")
            assert (await look(storage, claimed.id)).state is State.COMPLETED


async def test_a_transaction_held_too_long_is_rolled_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All other writes are blocked meanwhile, even heartbeats: the error says so, and the attempt is still owned."""
    monkeypatch.setattr(held, "LONGEST", 0.0)
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            claimed = await start(storage)
            with pytest.raises(StorageError, match="open for more than"):
                async with storage.attempts.transaction(
                    ref(claimed), Outcome(claimed.id, claimed.lease)
                ) as conn:
                    await conn.execute("create table mine (n)")
                    await trio.sleep_forever()
            with closing(sqlite3.connect(path)) as other:
                assert other.execute("select count(*) from sqlite_schema where name = 'mine'").fetchone() == (
                    0,
                )
            assert await storage.attempts.finish([Outcome(claimed.id, claimed.lease)]) == ()


async def test_calls_within_a_block(path: Path) -> None:
    """Inside its own block a task can read. Writing without the block's connection raises an error."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            claimed = await start(storage)
            async with storage.attempts.transaction(ref(claimed), Outcome(claimed.id, claimed.lease)) as conn:
                assert (await look(storage, claimed.id)).state is State.EXECUTING
                with pytest.raises(StorageError, match="conn="):
                    await storage.jobs.insert([job()])
                await storage.jobs.insert([job()], conn=conn)
            assert len(await claim(storage)) == 1


async def test_a_block_that_commits_itself_is_told_so(path: Path) -> None:
    """The outcome would not be part of the same transaction any more."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            claimed = await start(storage)
            with pytest.raises(StorageError, match="ended the transaction itself"):
                async with storage.attempts.transaction(
                    ref(claimed), Outcome(claimed.id, claimed.lease)
                ) as conn:
                    conn.raw.commit()
            assert (await look(storage, claimed.id)).state is State.EXECUTING


async def test_a_claim_that_is_cancelled_in_the_thread_is_handed_over(path: Path) -> None:
    """A claim that is cancelled while the thread commits is still returned: it is not lost."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            await storage.jobs.insert([job()])
            with trio.CancelScope() as scope:

                def cancel() -> None:
                    trio.from_thread.run_sync(scope.cancel)

                _during_the_next_claim(storage, cancel)
                exchange = await storage.attempts.exchange([], ask())
                assert [one.name for one in exchange.jobs] == ["send"]
            assert scope.cancel_called


def _during_the_next_claim(storage: Storage, call: Callable[[], None]) -> None:
    """Call something from the writing thread, in the middle of its transaction."""
    writer: sqlite3.Connection = storage.jobs._database._writer
    writer.create_function("call_the_test", 0, call)
    writer.execute("create temp trigger called after update on jobrt_lease begin select call_the_test(); end")


async def test_a_query_ends_when_nobody_waits_for_it(path: Path) -> None:
    """A cancelled reader stops in the middle and releases the connection; other readers continue."""

    def read_for_ever(tx: Transaction) -> None:
        trio.from_thread.run_sync(begun.set)
        tx.value("WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n FROM n) SELECT count(*) FROM n")

    begun = trio.Event()
    with trio.fail_after(PATIENCE):
        async with open_database(str(path), lambda: 0) as opened:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(opened.read, read_for_ever)
                await begun.wait()
                nursery.cancel_scope.cancel()
            assert await opened.read(lambda tx: tx.value("SELECT 7")) == 7


async def test_a_file_opens_in_a_transaction_of_the_same_thread(path: Path) -> None:
    """There is nothing to write, so the thread does not wait for itself; and its connection carries jobs."""
    with open_blocking(path):
        pass
    with closing(sqlite3.connect(path)) as mine:
        mine.execute("create table mine (n)")
        mine.execute("insert into mine values (1)")
        with open_blocking(path) as storage:
            storage.insert([job()], conn=mine)
        with trio.fail_after(PATIENCE):
            async with open_sqlite(path) as opened:
                await opened.jobs.insert([job()], conn=mine)
                mine.commit()
                assert len(await claim(opened)) == 2


async def test_values_that_a_caller_converts_are_not_ours(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Converters for declared types apply to the caller's own rows."""

    def convert(_: bytes) -> object:
        raise AssertionError("this value is not the caller's")

    unique = UniqueKey("0" * 32, None, frozenset({State.AVAILABLE}), Replace("priority"))
    for name in ("INTEGER", "TEXT"):
        monkeypatch.setitem(sqlite3.converters, name, convert)
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            with closing(sqlite3.connect(path, detect_types=sqlite3.PARSE_DECLTYPES)) as mine:
                (made,) = await storage.jobs.insert([job(unique=unique)], conn=mine)
                (again,) = await storage.jobs.insert([job(unique=unique, priority=7)], conn=mine)
                mine.commit()
            assert (again.id, again.duplicate) == (made.id, True)
            assert (await look(storage, made.id)).priority == 7


async def test_the_time_of_a_transaction_is_that_of_its_lock(path: Path) -> None:
    """Transactions have their times in the order of their locks: rates would count a time twice else."""
    opened: list[database.Database] = []
    locked_then: list[bool] = []

    def micros() -> int:
        locked_then.append(bool(opened) and opened[0]._writer.in_transaction)
        return len(locked_then)

    async with open_database(str(path), micros) as found:
        opened.append(found)
        locked_then.clear()
        await found.write(lambda tx: tx.now)
    assert locked_then == [True]
