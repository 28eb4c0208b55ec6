"""The low watermark on a real database: claims read from where the last ended, and miss nothing for long."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
import trio

from jobrt._core import where
from jobrt._core.job import Claimed
from jobrt._core.limits import Demand
from jobrt._core.states import End, Transition
from jobrt._storage.contract import Storage
from jobrt._storage.postgres import claim as claims
from jobrt._storage.postgres.names import Statement
from jobrt._storage.postgres.session import PreparedSession
from jobrt._trio_psycopg import TrioConnection
from tests.storage.postgres.build import add, ask, claim, end, job

PAST = timedelta(hours=-1)


class Time:
    """A clock for the time of full claims; it moves only when the test moves it."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now


@pytest.fixture
def time(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Time:
    """Treat every full claim as slow, so that the others start at the watermark, and stop its clock."""
    monkeypatch.setattr(claims, "_SLOW", -1.0)
    monkeypatch.setattr(claims, "_TOO_SLOW", -1.0)
    monkeypatch.setattr(claims, "_FULL_SHARE", 0)
    clock = Time()
    storage.jobs._waker.watermarks.clock = clock
    return clock


async def old(storage: Storage, admin: psycopg.Connection[Any], number: int, **options: Any) -> list[int]:
    """Insert jobs that have been due for an hour."""
    ids = await add(storage, *(job(**options) for _ in range(number)))
    admin.execute(
        "update jobrt.job set schedule_at = schedule_at - interval '1 hour' where id = any(%s)", [ids]
    )
    return ids


async def test_a_drain_in_batches_is_in_order_and_whole(
    storage: Storage, admin: psycopg.Connection[Any], time: Time
) -> None:
    """Each claim continues where the previous one ended."""
    ids = await old(storage, admin, 25)
    got: list[int] = []
    while batch := await claim(storage, limit=4):
        got += batch
    assert got == ids


async def test_claims_begin_at_the_mark(storage: Storage, admin: psycopg.Connection[Any], time: Time) -> None:
    """A row below the watermark is not seen before the next full claim: that is how dead entries are not scanned."""
    ids = await old(storage, admin, 10)
    assert await claim(storage, limit=4) == ids[:4]
    (late,) = await old(storage, admin, 1)
    admin.execute("update jobrt.job set schedule_at = schedule_at - interval '1 hour' where id = %s", [late])
    assert await claim(storage, limit=2) == ids[4:6]
    time.now += 1.0
    assert await claim(storage, limit=2) == [late, ids[6]]


async def test_a_row_committed_late_is_claimed_within_a_second(
    storage: Storage, admin: psycopg.Connection[Any], postgres_url: str, time: Time
) -> None:
    """A transaction that began before the last claim and commits after it loses nothing."""
    before = await old(storage, admin, 6)
    async with await TrioConnection.connect(postgres_url) as conn:
        due = (await storage.schema.now()) - timedelta(hours=1)
        (late,) = await storage.jobs.insert([job(schedule_at=due)], conn=conn)
        assert await claim(storage, limit=4) == before[:4]
        after = await old(storage, admin, 2)
        await conn.commit()
    assert await claim(storage, limit=1) == before[4:5]
    time.now += 1.0
    assert set(await claim(storage, limit=4)) == {before[5], late.id, *after}


async def test_a_higher_priority_that_arrives_in_a_drain_is_next(
    storage: Storage, admin: psycopg.Connection[Any], time: Time
) -> None:
    """Whatever the watermark of one priority, higher priorities are read first, known or not."""
    ids = await old(storage, admin, 10)
    assert await claim(storage, limit=2) == ids[:2]
    (high,) = await add(storage, job(priority=5))
    assert await claim(storage, limit=1) == [high]
    higher, highest = await add(storage, job(priority=6), job(priority=7))
    assert await claim(storage, limit=1) == [highest]
    assert await claim(storage, limit=1) == [higher]
    assert await claim(storage, limit=2) == ids[2:4]


async def test_several_new_priorities_at_once_keep_the_order(storage: Storage) -> None:
    """Only the first of them is found with the known ones; nothing below it is claimed before the rest are searched."""
    storage.jobs._waker.watermarks.clock = Time()
    known = await add(storage, *(job() for _ in range(4)))
    assert await claim(storage, limit=1) == known[:1]
    low, high, below = await add(storage, job(priority=5), job(priority=9), job(priority=-5))
    assert await claim(storage, limit=3) == [high, low, known[1]]
    assert await claim(storage, limit=9) == [*known[2:], below]


async def test_our_own_hand_backs_are_claimed_at_once(
    storage: Storage, admin: psycopg.Connection[Any], time: Time
) -> None:
    """A job that this client gives back, or retries without delay, is below the watermark; the next claim finds it."""
    ids = await old(storage, admin, 10)
    first: tuple[Claimed, ...] = (await storage.attempts.exchange((), ask(limit=4))).jobs
    back = end(first[1], event=Transition.GIVE_BACK, end=None, spent=False)
    assert await storage.attempts.finish([back]) == ()
    assert await claim(storage, limit=2) == [ids[1], ids[4]]
    retried = end(first[2], event=Transition.RETRY, end=End.FAILED)
    exchange = await storage.attempts.exchange([retried], ask(limit=1))
    assert [one.id for one in exchange.jobs] == [ids[5]]
    assert ids[2] in await claim(storage, limit=20)


async def test_a_rerun_and_an_update_are_claimed_at_once(
    storage: Storage, admin: psycopg.Connection[Any], time: Time
) -> None:
    """Jobs that an operator makes due through this client are not overlooked either."""
    ids = await old(storage, admin, 10)
    first = (await storage.attempts.exchange((), ask(limit=4))).jobs
    await storage.attempts.finish([end(one) for one in first])
    assert await storage.jobs.update(where.id(ids[9]), {"delay": PAST * 2}) == 1
    assert await claim(storage, limit=1) == [ids[9]]


async def test_a_wake_up_asks_for_a_full_claim(
    storage: Storage, another: Any, admin: psycopg.Connection[Any], time: Time
) -> None:
    """A job that another client gives back sends a wake-up, and the next claim finds it."""
    ids = await old(storage, admin, 10)
    first = (await storage.attempts.exchange((), ask(limit=4))).jobs
    woken = trio.Event()
    async with another() as other, trio.open_nursery() as nursery:
        await nursery.start(storage.wakes.listen, lambda _wake: woken.set())
        await other.attempts.finish([end(first[0], event=Transition.GIVE_BACK, end=None, spent=False)])
        await woken.wait()
        nursery.cancel_scope.cancel()
    assert (await claim(storage, limit=1)) == [ids[0]]


async def test_a_capped_name_is_not_passed_by_others(
    storage: Storage, admin: psycopg.Connection[Any], time: Time
) -> None:
    """Jobs that a cap has left out are still there, first of their name, when there is room again."""
    slow = await old(storage, admin, 6, name="slow")
    quick = await old(storage, admin, 8, name="quick")

    async def take(cap: int, limit: int) -> list[int]:
        demand = Demand("w", "default", limit, ("quick",), (("slow", cap),))
        return [one.id for one in (await storage.attempts.exchange((), demand)).jobs]

    assert await take(2, 4) == [*slow[:2], *quick[:2]]
    assert await take(1, 3) == [slow[2], *quick[2:4]]
    assert await claim(storage, "quick", limit=2) == quick[4:6]
    assert await take(3, 5) == [*slow[3:6], *quick[6:8]]


async def test_a_known_priority_is_claimed_by_one_statement(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only new priorities need a second claim, and only once, even if the queue is empty in between.

    The first claim of a client looks how many jobs of other names there are: two statements more.
    """
    ran: list[str] = []
    run = PreparedSession.run

    async def spy(self: PreparedSession, statement: Statement, /, **values: str | None) -> Any:
        if statement.name != "wakes/notify":  # which another task sends, now or a little later
            ran.append(statement.name)
        return await run(self, statement, **values)

    monkeypatch.setattr(PreparedSession, "run", spy)
    looks = []
    for priority in (0, 0, 7, 0, 7):
        (id,) = await add(storage, job(priority=priority))
        ran.clear()
        (claimed,) = (await storage.attempts.exchange((), ask(limit=10))).jobs
        looks.append(len(ran))
        assert claimed.id == id
        assert await storage.attempts.finish([end(claimed)]) == ()
    assert looks == [4, 1, 2, 1, 1]
