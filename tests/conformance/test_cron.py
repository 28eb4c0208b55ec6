"""Cron entries: stored once, and one job per tick in the whole cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import trio

from jobrt._core import where
from jobrt._core.states import State
from jobrt._storage.contract import CronRow, Storage
from jobrt.errors import StorageError
from tests.conformance.build import claim, job, look
from tests.conformance.harness import PATIENCE, Engine

TICK = datetime(2030, 1, 1, 3, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPEC = {
    "line": "0 3 * * *",
    "timezone": "Europe/Berlin",
    "job": {"name": "nightly", "args": {"n": [1, None]}},
}


async def _put(storage: Storage, name: str = "nightly") -> CronRow:
    return await storage.crons.put(CronRow(name=name, spec=SPEC))


async def test_a_new_entry(storage: Storage) -> None:
    """It is stored as given, with the time of its creation, not paused, never ticked."""
    before = await storage.schema.now()
    row = await _put(storage)
    assert (row.name, row.spec, row.paused, row.last_tick) == ("nightly", SPEC, False, None)
    assert row.created_at is not None
    assert before <= row.created_at <= await storage.schema.now()
    assert await storage.crons.all() == (row,)


async def test_an_entry_may_come_with_its_past(storage: Storage) -> None:
    """A new entry is stored paused, or as having ticked, if it says so."""
    row = await storage.crons.put(CronRow(name="n", spec={}, paused=True, last_tick=TICK))
    assert (row.paused, row.last_tick) == (True, TICK)
    assert await storage.crons.fire("n", TICK, job()) is None


async def test_entries_are_listed_by_name(storage: Storage) -> None:
    """All of them."""
    for name in ("b", "a", "c"):
        await _put(storage, name)
    assert [one.name for one in await storage.crons.all()] == ["a", "b", "c"]


async def test_putting_again_changes_the_spec_only(storage: Storage) -> None:
    """A worker that starts stores the code's spec and keeps the operator's pause and the last tick."""
    first = await _put(storage)
    await storage.crons.set("nightly", paused=True)
    await storage.crons.fire("nightly", TICK, job())
    row = await storage.crons.put(CronRow(name="nightly", spec={"line": "0 4 * * *"}))
    assert row == CronRow(
        name="nightly", spec={"line": "0 4 * * *"}, paused=True, last_tick=TICK, created_at=first.created_at
    )
    assert await storage.crons.all() == (row,)


async def test_changing_an_entry(storage: Storage) -> None:
    """Values that are not given are unchanged; False if there is no such entry."""
    await _put(storage)
    assert await storage.crons.set("nightly", paused=True)
    assert await storage.crons.set("nightly", spec={"a": 1})
    (row,) = await storage.crons.all()
    assert (row.paused, row.spec) == (True, {"a": 1})
    assert await storage.crons.set("nightly", paused=False)
    assert not await storage.crons.set("other", paused=True)
    assert [(one.name, one.paused) for one in await storage.crons.all()] == [("nightly", False)]


async def test_removing_an_entry(storage: Storage) -> None:
    """True once; False when there is none."""
    await _put(storage)
    assert await storage.crons.delete("nightly")
    assert not await storage.crons.delete("nightly")
    assert await storage.crons.all() == ()


async def test_a_tick_enqueues_its_job(storage: Storage) -> None:
    """The job is stored as given, due immediately, and the tick is recorded."""
    await _put(storage)
    id = await storage.crons.fire("nightly", TICK, job("nightly", {"a": 1}, priority=3, queue="q"))
    assert id is not None
    record = await look(storage, id)
    assert (record.name, record.args, record.priority) == ("nightly", {"a": 1}, 3)
    assert record.state is State.AVAILABLE
    assert [one.last_tick for one in await storage.crons.all()] == [TICK]
    assert [one.id for one in await claim(storage, "nightly", queue="q")] == [id]


async def test_a_tick_fires_once(storage: Storage) -> None:
    """The same tick again enqueues nothing, even after its job is deleted; neither does an older one."""
    await _put(storage)
    assert await storage.crons.fire("nightly", TICK, job()) is not None
    assert await storage.crons.fire("nightly", TICK, job()) is None
    assert await storage.crons.fire("nightly", TICK - HOUR, job()) is None
    await storage.jobs.delete(where.everything())
    assert await storage.crons.fire("nightly", TICK, job()) is None
    assert await storage.jobs.count(where.everything()) == 0
    assert [one.last_tick for one in await storage.crons.all()] == [TICK]


async def test_a_later_tick_fires(storage: Storage) -> None:
    """Ticks follow one another, however much later."""
    await _put(storage)
    ids = [await storage.crons.fire("nightly", TICK + n * HOUR, job()) for n in (0, 1, 100)]
    assert None not in ids
    assert len(set(ids)) == 3


async def test_a_tick_from_before_a_restore_does_not_fire(storage: Storage) -> None:
    """A caller that has read a later tick than the database knows reads again: a tick in between is due once more."""
    await _put(storage)
    assert await storage.crons.fire("nightly", TICK + 2 * HOUR, job(), last=TICK + HOUR) is None
    await storage.crons.fire("nightly", TICK, job())
    assert await storage.crons.fire("nightly", TICK + 2 * HOUR, job(), last=TICK + HOUR) is None
    assert [one.last_tick for one in await storage.crons.all()] == [TICK]
    assert await storage.crons.fire("nightly", TICK + HOUR, job(), last=TICK) is not None
    assert await storage.crons.fire("nightly", TICK + 2 * HOUR, job(), last=TICK) is not None


async def test_a_tick_is_an_instant(storage: Storage) -> None:
    """The same moment in another zone is the same tick; microseconds count."""
    await _put(storage)
    await storage.crons.fire("nightly", TICK, job())
    berlin = TICK.astimezone(timezone(HOUR))
    assert await storage.crons.fire("nightly", berlin, job()) is None
    assert await storage.crons.fire("nightly", TICK + timedelta(microseconds=1), job()) is not None
    (row,) = await storage.crons.all()
    assert row.last_tick == TICK + timedelta(microseconds=1)
    assert row.last_tick.utcoffset() == timedelta(0)


async def test_entries_tick_on_their_own(storage: Storage) -> None:
    """One entry's ticks are not another's."""
    await _put(storage, "a")
    await _put(storage, "b")
    assert await storage.crons.fire("a", TICK, job()) is not None
    assert await storage.crons.fire("b", TICK, job()) is not None


async def test_a_tick_that_is_passed_over(storage: Storage) -> None:
    """Without a job the tick is only marked, and then neither it nor an older one fires."""
    await _put(storage)
    assert await storage.crons.fire("nightly", TICK, None) is None
    assert [one.last_tick for one in await storage.crons.all()] == [TICK]
    assert await storage.crons.fire("nightly", TICK, job()) is None
    assert await storage.jobs.count(where.everything()) == 0
    assert await storage.crons.fire("nightly", TICK - HOUR, None) is None
    assert [one.last_tick for one in await storage.crons.all()] == [TICK]


async def test_an_entry_that_is_gone_does_not_tick(storage: Storage) -> None:
    """An entry that was deleted meanwhile enqueues nothing."""
    await _put(storage)
    await storage.crons.delete("nightly")
    assert await storage.crons.fire("nightly", TICK, job()) is None
    assert await storage.jobs.count(where.everything()) == 0


async def test_many_workers_at_one_tick(engine: Engine) -> None:
    """Tasks of two processes that fire the same ticks at once: one job per tick, one id per tick."""
    await _put(engine.storage)
    ids: list[int | None] = []

    async def fire(storage: Storage) -> None:
        for n in range(5):
            fired = await storage.crons.fire("nightly", TICK + n * HOUR, job(args={"n": n}))
            ids.append(fired)

    async with engine.open() as other:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for n in range(6):
                    nursery.start_soon(fire, other if n % 2 else engine.storage)
    fired = [id for id in ids if id is not None]
    records = await engine.storage.jobs.query(where.everything(), order_by="id")
    assert sorted(fired) == [one.id for one in records]
    assert [one.args["n"] for one in records] == [0, 1, 2, 3, 4]


async def test_a_tick_whose_job_is_refused_did_not_happen(engine: Engine) -> None:
    """Tick and job are one transaction: fired again when the database works, it enqueues."""
    await _put(engine.storage)
    await engine.refuse("insert", "new.name = 'poison'")
    with pytest.raises(StorageError):
        await engine.storage.crons.fire("nightly", TICK, job("poison"))
    assert [one.last_tick for one in await engine.storage.crons.all()] == [None]
    assert await engine.storage.crons.fire("nightly", TICK, job()) is not None


async def test_the_last_tick_survives_restarts(engine: Engine, shareable: None) -> None:
    """A restarted process neither repeats nor loses a tick."""
    async with engine.open() as other:
        await _put(other)
        assert await other.crons.fire("nightly", TICK, job()) is not None
    async with engine.open() as again:
        assert (await _put(again)).last_tick == TICK
        assert await again.crons.fire("nightly", TICK, job()) is None
        assert await again.crons.fire("nightly", TICK + HOUR, job()) is not None
