"""`JobStore.stats`: counted by hour, queue and name, pruned jobs included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from jobrt._core import where
from jobrt._core.keep import PruneRule
from jobrt._core.states import FINAL, State, Transition
from jobrt._core.stats import NO_CLASSES, NOTHING, Bucket, Ended, total
from jobrt._storage.contract import Storage
from tests.conformance.build import add, claim, complete, end, job, start

if TYPE_CHECKING:
    from tests.conformance.harness import Engine

DAY = timedelta(days=1)
HOUR = 3600


async def _all(storage: Storage) -> tuple[Bucket, ...]:
    return await storage.jobs.stats(since=await storage.schema.now() - 30 * DAY)


async def _sums(storage: Storage, name: str = "send") -> tuple[int, int, int, int, int]:
    """Sum enqueued, completed, failed, dead and cancelled over all hours."""
    found = [one for one in await _all(storage) if one.name == name]
    return (
        sum(one.enqueued for one in found),
        sum(one.completed for one in found),
        sum(one.failed for one in found),
        sum(one.dead for one in found),
        sum(one.cancelled for one in found),
    )


async def _life(storage: Storage) -> None:
    """Enqueue eight jobs: two complete, one after a failure; one is dead, two are cancelled; three are unfinished."""
    await add(storage, *(job() for _ in range(7)), job(delay=DAY))
    claimed = await claim(storage)
    events = [Transition.COMPLETE, Transition.RETRY, Transition.DISCARD, Transition.CANCEL, Transition.SNOOZE]
    for one, event in zip(claimed, events, strict=False):
        await storage.attempts.finish(
            [end(one, event, delay=60.0 * (event is Transition.SNOOZE), message="m")]
        )
    (again,) = await claim(storage)
    await complete(storage, again)
    assert await storage.jobs.cancel(where.state("scheduled"), "x", limit=1) == (1, 0)


WANTED = (8, 2, 2, 1, 2)


async def test_nothing_happened(storage: Storage) -> None:
    """No jobs, no counts."""
    assert await _all(storage) == ()


async def test_every_kind_is_counted(storage: Storage) -> None:
    """Jobs enqueued, completed, dead and cancelled; attempts that failed, the dead job's last one too."""
    await _life(storage)
    assert await _sums(storage) == WANTED


@pytest.mark.parametrize("how", ["delete", "prune"])
async def test_jobs_that_are_gone_still_count(storage: Storage, how: str) -> None:
    """Counts include deleted jobs."""
    await _life(storage)
    if how == "delete":
        await storage.jobs.delete(where.everything())
    else:
        await storage.jobs.prune([PruneRule(state=state) for state in FINAL])
    assert await _sums(storage) == WANTED
    await complete(storage, await start(storage))
    enqueued, completed, *rest = WANTED
    assert await _sums(storage) == (enqueued + 1, completed + 1, *rest)


async def test_counts_are_by_queue_and_name(storage: Storage) -> None:
    """Each has buckets of its own."""
    await add(storage, job("a"), job("a", queue="q"), job("b"), job("a"))
    found = {(one.queue, one.name): one.enqueued for one in await _all(storage)}
    assert found == {("default", "a"): 2, ("q", "a"): 1, ("default", "b"): 1}


async def test_hours_are_whole_and_in_utc(storage: Storage) -> None:
    """A bucket is named by the beginning of its hour."""
    await add(storage, job())
    (bucket,) = await _all(storage)
    assert bucket.hour.utcoffset() == timedelta(0)
    assert (bucket.hour.minute, bucket.hour.second, bucket.hour.microsecond) == (0, 0, 0)
    assert timedelta(0) <= await storage.schema.now() - bucket.hour < timedelta(hours=2)


async def test_each_thing_counts_in_its_own_hour(engine: Engine) -> None:
    """A job enqueued in one hour and completed in another counts in both."""
    storage = engine.storage
    await add(storage, job())
    await engine.advance(3 * HOUR)
    (claimed,) = await claim(storage)
    await storage.attempts.finish([end(claimed, Transition.RETRY, message="no")])
    await engine.advance(2 * HOUR)
    await complete(storage, *await claim(storage))
    buckets = sorted(await _all(storage), key=lambda one: one.hour)
    counts = [(one.enqueued, one.failed, one.completed) for one in buckets]
    assert counts == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert buckets[1].hour - buckets[0].hour == timedelta(hours=3)
    assert buckets[2].hour - buckets[1].hour == timedelta(hours=2)


async def test_only_since(engine: Engine) -> None:
    """What is older is left out, pruned or not."""
    storage = engine.storage
    await complete(storage, await start(storage, job("old")))
    await complete(storage, await start(storage, job("gone")))
    await storage.jobs.delete(where.name("gone"))
    await engine.advance(10 * HOUR)
    await complete(storage, await start(storage, job("new")))
    since = await storage.schema.now() - timedelta(hours=5)
    assert {one.name for one in await storage.jobs.stats(since=since)} == {"new"}
    assert {one.name for one in await _all(storage)} == {"old", "gone", "new"}


async def test_run_times(engine: Engine) -> None:
    """Seconds in all, and how many took how long; failed attempts and waiting do not count."""
    storage = engine.storage
    for name, wait, run in (
        ("send", 5.0, 5.0),
        ("send", 0.0, 100.0),
        ("send", 0.0, 1e6),
        ("fails", 0.0, 7.0),
    ):
        await add(storage, job(name))
        await engine.advance(wait)
        (claimed,) = await claim(storage, name)
        await engine.advance(run)
        event = Transition.COMPLETE if name == "send" else Transition.DISCARD
        await storage.attempts.finish([end(claimed, event)])
    found = [one for one in await _all(storage) if one.name == "send"]
    assert sum(one.seconds for one in found) == pytest.approx(1_000_105, abs=20)
    assert sum(one.seconds for one in await _all(storage) if one.name == "fails") == 0
    histograms = [one.histogram for one in found if one.completed]
    assert all(len(one) == 12 for one in histograms)
    total = [sum(each) for each in zip(*histograms, strict=True)]
    wanted = [0] * 12
    for seconds in (5.0, 100.0, 1e6):
        wanted[next((i for i in range(11) if seconds < 0.001 * 4**i), 11)] += 1
    assert total == wanted


async def test_run_times_of_jobs_that_are_gone(engine: Engine) -> None:
    """They are rolled up with the counts."""
    storage = engine.storage
    for run in (0.5, 100.0):
        claimed = await start(storage)
        await engine.advance(run)
        await complete(storage, claimed)
    before = await _all(storage)
    await storage.jobs.prune([PruneRule(state=State.COMPLETED, keep_at_least=1)])
    after = await _all(storage)
    assert sum(one.seconds for one in after) == pytest.approx(sum(one.seconds for one in before))
    assert [sum(x) for x in zip(*(one.histogram for one in after), strict=True)] == [
        sum(x) for x in zip(*(one.histogram for one in before), strict=True)
    ]


async def test_all_time_is_all_time(engine: Engine) -> None:
    """Counts from years ago are kept by month, and never lost, however often jobs are pruned."""
    storage = engine.storage
    rules = [PruneRule(state=state) for state in FINAL]
    for _ in range(5):
        await complete(storage, await start(storage))
        await storage.jobs.prune(rules)
        await engine.advance(5 * HOUR)
    await engine.advance(1500 * 24 * HOUR)
    for _ in range(3):
        await complete(storage, await start(storage))
        await storage.jobs.prune(rules)
    found = await storage.jobs.stats(since=await storage.schema.now() - 9999 * DAY)
    assert sum(one.enqueued for one in found) == sum(one.completed for one in found) == 8
    assert sum(map(sum, (one.histogram for one in found))) == 8
    recent = await storage.schema.now() - 400 * DAY
    assert len([one for one in found if one.hour < recent]) <= 2
    assert len([one for one in found if one.hour >= recent]) <= 2


async def test_crashes_are_failures(storage: Storage) -> None:
    """A rescued attempt failed; snoozed and interrupted ones did not."""
    for _ in range(2):
        await start(storage)
    assert len(await storage.workers.rescue()) == 2
    (one, other) = await claim(storage)
    await storage.attempts.finish([end(one, Transition.SNOOZE), end(other, Transition.GIVE_BACK)])
    assert await _sums(storage) == (2, 0, 2, 0, 0)


async def test_since_any_zone(storage: Storage) -> None:
    """Times with different zones give the same result."""
    from datetime import timezone

    await add(storage, job())
    since = datetime.now(UTC).replace(year=2020).astimezone(timezone(timedelta(hours=-5)))
    assert len(await storage.jobs.stats(since=since)) == 1


# ------------------------------------------------------------------ ended


MINUTE = 60


async def _ended(storage: Storage, *, step: int = MINUTE, limit: int = 1000, **options: Any) -> Ended:
    now = await storage.schema.now()
    return await storage.jobs.ended(now - 30 * DAY, now + DAY, step=step, limit=limit, **options)


async def test_ends_of_every_kind_are_counted(storage: Storage) -> None:
    """Jobs completed, dead and cancelled; attempts that failed."""
    await _life(storage)
    found = await _ended(storage)
    assert {(slot.queue, slot.name) for slot in found.slots} == {("default", "send")}
    assert total([slot.numbers for slot in found.slots])[:4] == WANTED[1:]
    assert not found.more


async def test_each_end_is_in_its_own_slot(engine: Engine) -> None:
    """Slots begin at multiples of the step; a range has its beginning and not its end."""
    storage = engine.storage
    ids: list[int] = []
    for name in ("a", "b"):
        claimed = await start(storage, job(name, queue=f"of {name}"))
        await engine.advance(HOUR)
        await complete(storage, claimed)
        ids.append(claimed.id)
    ends = [record.finished_at for record in await storage.jobs.query(where.id_in(ids), order_by="id")]
    slots = (await _ended(storage)).slots
    assert [(slot.queue, slot.name, slot.start) for slot in slots] == [
        (f"of {name}", name, end_at.replace(second=0, microsecond=0))
        for name, end_at in zip("ab", ends, strict=True)
        if end_at is not None
    ]
    assert ends[0] is not None
    assert ends[1] is not None
    between = await storage.jobs.ended(ends[0], ends[1], step=HOUR, limit=9)
    assert [slot.name for slot in between.slots] == ["a"]
    assert between.slots[0].start == ends[0].replace(minute=0, second=0, microsecond=0)


async def test_waits_and_run_times_by_slot(engine: Engine) -> None:
    """A wait is from when the job was due until its last attempt began."""
    storage = engine.storage
    await add(storage, job(delay=timedelta(seconds=5)))
    await engine.advance(25.0)
    (claimed,) = await claim(storage)
    await engine.advance(100.0)
    await complete(storage, claimed)
    (slot,) = (await _ended(storage)).slots
    assert slot.numbers.waited == pytest.approx(20.0, abs=40)
    assert slot.numbers.seconds == pytest.approx(100.0, abs=40)
    assert [index for index, count in enumerate(slot.numbers.waits) if count] == [8]
    assert [index for index, count in enumerate(slot.numbers.histogram) if count] == [9]


async def test_counting_ends_at_the_limit(storage: Storage) -> None:
    """It says that there are more jobs, or more failed attempts."""
    await complete(storage, *[await start(storage) for _ in range(3)])
    assert not (await _ended(storage, limit=3)).more
    assert (await _ended(storage, limit=2)).more
    await add(storage, *(job("bad") for _ in range(4)))
    failed = await claim(storage, "bad")
    await storage.attempts.finish([end(claimed, Transition.RETRY, delay=60.0) for claimed in failed])
    assert (await _ended(storage, limit=3)).more


async def test_deleted_jobs_count_by_the_hour(storage: Storage) -> None:
    """On request; their number is the same as before they were deleted."""
    await _life(storage)
    before = await _ended(storage, step=HOUR, deleted=True)
    await storage.jobs.delete(where.everything())
    assert (await _ended(storage)).slots == ()
    after = await _ended(storage, step=HOUR, deleted=True)
    for one, other in zip(before.slots, after.slots, strict=True):
        assert attrs.evolve(one, numbers=NOTHING) == attrs.evolve(other, numbers=NOTHING)
        known = one.numbers._replace(
            waited=0.0, waits=NO_CLASSES, seconds=pytest.approx(other.numbers.seconds)
        )
        assert other.numbers == known
