"""A database in memory lives in the event loop, so that everything works in virtual time."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from jobrt._core.job import Outcome
from jobrt._core.states import State
from jobrt._storage.contract import Wake
from jobrt._storage.sqlite import held, open_sqlite
from jobrt.errors import StorageError
from tests.conformance.build import ask, claim, job, look, ref, start

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from trio.testing import MockClock

    from jobrt._storage.contract import Storage

HOUR = 3600
START = datetime(2031, 5, 14, tzinfo=UTC)


@pytest.fixture
async def storage() -> AsyncGenerator[Storage]:
    """A database in memory with Trio's clock; pytest-trio requires that the test itself requests the clock fixture."""
    begun = trio.current_time()
    async with open_sqlite(
        ":memory:", clock=lambda: START + timedelta(seconds=trio.current_time() - begun)
    ) as storage:
        yield storage


async def test_no_threads(autojump_clock: MockClock, storage: Storage) -> None:
    """Whatever is called, no thread is started."""
    before = threading.active_count()
    claimed = await start(storage)
    async with storage.attempts.transaction(ref(claimed), Outcome(claimed.id, claimed.lease)):
        pass
    assert threading.active_count() == before


async def test_jobs_fall_due_in_virtual_time(autojump_clock: MockClock, storage: Storage) -> None:
    """A job an hour ahead is due after an hour, which takes no time at all."""
    await storage.jobs.insert([job(delay=timedelta(hours=1))])
    exchange = await storage.attempts.exchange([], ask())
    assert exchange.jobs == ()
    assert exchange.next_due == 3600
    await trio.sleep(exchange.next_due)
    assert len(await claim(storage)) == 1


async def test_listening_does_not_keep_time_from_passing(autojump_clock: MockClock, storage: Storage) -> None:
    """No other process can write to it, so nothing is polled: the clock jumps over the whole wait."""
    heard: list[Wake] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(storage.wakes.listen, heard.append)
        before = trio.lowlevel.current_statistics().seconds_to_next_deadline
        assert before > HOUR
        await trio.sleep(HOUR)
        await storage.jobs.insert([job(queue="mail")])
        assert heard == [Wake("jobs", "mail")]
        nursery.cancel_scope.cancel()


async def test_others_wait_for_a_transaction(autojump_clock: MockClock, storage: Storage) -> None:
    """There is one connection: calls wait until the block that uses it ends."""
    claimed = await start(storage)
    done = trio.Event()

    async def insert() -> None:
        await storage.jobs.insert([job()])
        done.set()

    async with trio.open_nursery() as nursery:
        async with storage.attempts.transaction(ref(claimed), Outcome(claimed.id, claimed.lease)) as conn:
            nursery.start_soon(insert)
            await trio.testing.wait_all_tasks_blocked()
            assert not done.is_set()
            await conn.execute("create table mine (n)")
        await done.wait()


async def test_a_transaction_held_too_long(autojump_clock: MockClock, storage: Storage) -> None:
    """It ends after its time, and the attempt is still owned."""
    claimed = await start(storage)
    begun = trio.current_time()
    with pytest.raises(StorageError, match="open for more than 10 seconds"):
        async with storage.attempts.transaction(ref(claimed), Outcome(claimed.id, claimed.lease)):
            await trio.sleep_forever()
    assert trio.current_time() - begun == held.LONGEST
    assert await storage.attempts.finish([Outcome(claimed.id, claimed.lease)]) == ()


async def test_calls_within_a_block(autojump_clock: MockClock, storage: Storage) -> None:
    """Inside its own block a task can read. Writing without the block's connection raises an error."""
    claimed = await start(storage)
    async with storage.attempts.transaction(ref(claimed), Outcome(claimed.id, claimed.lease)) as conn:
        assert (await look(storage, claimed.id)).state is State.EXECUTING
        with pytest.raises(StorageError, match="conn="):
            await storage.jobs.insert([job()])
        await storage.jobs.insert([job()], conn=conn)
    assert len(await claim(storage)) == 1


async def test_a_job_enqueued_in_a_transaction_wakes_when_it_commits(
    autojump_clock: MockClock, storage: Storage
) -> None:
    """Not before, and not when it is rolled back."""
    first, second = await start(storage), await start(storage)
    heard: list[Wake] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(storage.wakes.listen, heard.append)
        with pytest.raises(ZeroDivisionError):
            async with storage.attempts.transaction(ref(first), Outcome(first.id, first.lease)) as conn:
                await storage.jobs.insert([job(queue="never")], conn=conn)
                raise ZeroDivisionError
        async with storage.attempts.transaction(ref(second), Outcome(second.id, second.lease)) as conn:
            await storage.jobs.insert([job(queue="mail")], conn=conn)
            assert heard == []
        assert heard == [Wake("jobs", "mail")]
        nursery.cancel_scope.cancel()


async def test_a_blocks_row_factory_is_its_own(autojump_clock: MockClock, storage: Storage) -> None:
    """Changes that a block makes to the connection are reset for the next one."""
    claimed = await start(storage)
    async with storage.attempts.transaction(ref(claimed), Outcome(claimed.id, claimed.lease)) as conn:
        conn.row_factory = lambda _cursor, row: {"row": row}
        await conn.execute("create table mine (n)")
    assert len(await storage.jobs.insert([job()])) == 1
    assert storage.jobs._database._version() > 0
