"""Heartbeats come first, and held transactions leave room for other processes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from jobrt._storage.sqlite import held, open_sqlite, turns
from jobrt._storage.sqlite.turns import GAP, Pacing, TurnLock
from jobrt.errors import StorageError, StorageUnavailable
from tests.conformance.build import job, start
from tests.storage.sqlite.files import PATIENCE, locked
from tests.support.worker_info import worker_info

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from jobrt._storage.contract import Storage


@given(waiters=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12))
async def test_urgent_ones_come_first_and_each_kind_in_its_order(waiters: list[tuple[bool, bool]]) -> None:
    """Whoever waits and is not cancelled gets the turn once: the urgent ones, then the others, as they came."""
    lock = TurnLock()
    got: list[int] = []
    scopes = [trio.CancelScope() for _ in waiters]

    async def take(number: int, *, urgent: bool) -> None:
        with scopes[number]:
            await lock.acquire(urgent=urgent)
            got.append(number)
            lock.release()

    async with trio.open_nursery() as nursery:
        await lock.acquire()
        for number, (urgent, _) in enumerate(waiters):
            nursery.start_soon(lambda number=number, urgent=urgent: take(number, urgent=urgent))
            await trio.testing.wait_all_tasks_blocked()
        for scope, (_, cancelled) in zip(scopes, waiters, strict=True):
            if cancelled:
                scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        lock.release()
    staying = [number for number, (_, cancelled) in enumerate(waiters) if not cancelled]
    assert got == sorted(staying, key=lambda number: not waiters[number][0])
    assert not lock.locked()


async def test_a_turn_is_not_taken_by_who_comes_between(autojump_clock: MockClock) -> None:
    """Released, it belongs to the first who waits, before that task has run."""
    lock = TurnLock()
    order: list[str] = []

    async def take(name: str) -> None:
        await lock.acquire()
        order.append(name)
        lock.release()

    async with trio.open_nursery() as nursery:
        await lock.acquire()
        nursery.start_soon(take, "waited")
        await trio.testing.wait_all_tasks_blocked()
        lock.release()
        assert lock.locked()
        nursery.start_soon(take, "came")
    assert order == ["waited", "came"]


def test_a_pause_follows_half_a_second_of_held_transactions() -> None:
    """Short ones add up while they follow each other; after an idle time the count begins anew."""
    pacing = Pacing()
    pacing.ended(began=0.0, now=0.3)
    assert pacing.free_until < 0
    pacing.ended(began=0.31, now=0.52)
    assert pacing.free_until == 0.52 + 2 * GAP
    pacing.ended(began=2.0, now=2.4)
    pacing.ended(began=9.0, now=9.4)
    assert pacing.free_until < 1
    pacing.ended(began=20.0, now=24.0)
    assert pacing.free_until == 24 + 2 * GAP


async def _hold(storage: Storage, done: list[str], name: str, *, times: int = 1) -> None:
    """Hold transactions one after the other, each long enough for a gap to follow."""
    for _ in range(times):
        async with storage.jobs.transaction() as conn:
            await conn.execute("select 1")
            done.append(name)


async def test_a_beat_overtakes_transactions_that_wait(autojump_clock: MockClock) -> None:
    """Of all that want to write, the heartbeat is the next, and the others keep their order."""
    async with open_sqlite(":memory:") as storage:
        await storage.workers.register("w1", lease=30.0, info=worker_info())
        order: list[str] = []

        async def write() -> None:
            await storage.jobs.insert([job()])
            order.append("insert")

        async def beat() -> None:
            await storage.workers.beat("w1", lease=30.0, info=worker_info())
            order.append("beat")

        async with trio.open_nursery() as nursery, storage.jobs.transaction():
            for _ in range(3):
                nursery.start_soon(_hold, storage, order, "hold")
                await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(write)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(beat)
            await trio.testing.wait_all_tasks_blocked()
        assert order == ["beat", "insert", "hold", "hold", "hold"]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every held transaction count as a long one."""
    monkeypatch.setattr(turns, "_STRETCH", 0.0)


async def test_other_processes_write_between_held_transactions(tmp_path: Path, eager: None) -> None:
    """A process with any number of transactions to hold keeps neither beats nor other writes of others waiting."""
    path = tmp_path / "jobs.db"
    done: list[str] = []
    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as busy, open_sqlite(path) as other:
            await other.workers.register("w1", lease=60.0, info=worker_info())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: _hold(busy, done, "hold", times=1_000_000))
                for _ in range(3):
                    before = len(done)
                    await other.workers.beat("w1", lease=60.0, info=worker_info())
                    await other.jobs.insert([job()])
                    while len(done) == before:  # the transactions go on as well
                        await trio.sleep(0.01)
                nursery.cancel_scope.cancel()


async def test_processes_with_held_transactions_take_turns(tmp_path: Path, eager: None) -> None:
    """Who was refused comes before who has just had one, so none of them waits for the end of the other's."""
    path = tmp_path / "jobs.db"
    done: list[str] = []
    with trio.fail_after(PATIENCE):
        async with AsyncExitStack() as stack:
            first, second = [await stack.enter_async_context(open_sqlite(path)) for _ in range(2)]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: _hold(first, done, "first", times=1_000_000))
                nursery.start_soon(lambda: _hold(second, done, "second", times=1_000_000))
                while min(done.count("first"), done.count("second")) < 3:
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()


async def test_a_beat_goes_before_a_transaction_that_was_refused(tmp_path: Path) -> None:
    """A transaction that another program keeps waiting does not keep the process's own beats waiting after that."""
    path = tmp_path / "jobs.db"
    order: list[str] = []

    async def beat(storage: Storage) -> None:
        await storage.workers.beat("w1", lease=60.0, info=worker_info())
        order.append("beat")

    with trio.fail_after(PATIENCE):
        async with open_sqlite(path) as storage:
            await storage.workers.register("w1", lease=60.0, info=worker_info())
            refused = trio.Event()
            with pytest.MonkeyPatch.context() as patch, locked(path) as lock:
                original = held.Patience.refuse

                def refuse(*arguments: object) -> None:
                    refused.set()
                    original(*arguments)  # type: ignore[arg-type]

                patch.setattr(held.Patience, "refuse", refuse)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_hold, storage, order, "hold")
                    await refused.wait()
                    nursery.start_soon(beat, storage)
                    await trio.testing.wait_all_tasks_blocked()
                    lock.release()
    assert order == ["beat", "hold"]


async def test_a_transaction_waits_as_long_as_others_get_their_turn(autojump_clock: MockClock) -> None:
    """Half a minute without any commit is an outage; an hour in which others commit is a long queue."""
    patience = held.Patience()
    for version in range(100):
        await trio.sleep(held.PATIENCE - 1)
        patience.refuse(held.Busy("jobs.db: locked"), version)
    await trio.sleep(held.PATIENCE)
    with pytest.raises(StorageUnavailable, match="locked for more than 30 seconds"):
        patience.refuse(held.Busy("jobs.db: locked"), 99)


async def test_a_transaction_is_limited_by_the_shortest_lease(autojump_clock: MockClock) -> None:
    """A quarter of it: beats come three times per lease, and have to get in between."""
    async with open_sqlite(":memory:") as storage:
        await storage.workers.register("w1", lease=3600.0, info=worker_info())
        await storage.workers.register("w2", lease=3.0, info=worker_info())
        await start(storage)
        begun = trio.current_time()
        with pytest.raises(StorageError, match=r"more than 0\.75 seconds.*shortest lease.*rolled back"):
            async with storage.jobs.transaction():
                await trio.sleep_forever()
        assert trio.current_time() - begun == 0.75
        await storage.workers.unregister("w2")
        begun = trio.current_time()
        with pytest.raises(StorageError, match="more than 10 seconds"):
            async with storage.jobs.transaction():
                await trio.sleep_forever()
        assert trio.current_time() - begun == 10
