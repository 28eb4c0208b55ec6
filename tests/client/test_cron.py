"""Cron entries through an app with running workers, in memory, under virtual time."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock

import jobrt
from jobrt.testing import open_app, set_clock
from tests.parity.jobs import Echo
from tests.runtime.test_fencing import Trouble, scene
from tests.simulation.faulty import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EVERY_MINUTE = "* * * * *"


@asynccontextmanager
async def working(app: jobrt.App, *, workers: int = 1) -> AsyncIterator[None]:
    """Run workers during a block."""
    async with trio.open_nursery() as nursery:
        started = [await nursery.start(app.run_worker) for _ in range(workers)]
        yield
        for worker in started:
            await worker.stop()


async def test_three_workers_make_one_job_of_a_tick(autojump_clock: MockClock) -> None:
    """There is one job per tick, however many workers fire it."""
    async with open_app(jobs=[Echo]) as (app, jobs):
        app.cron(EVERY_MINUTE, Echo("tick"), name="minutely")
        async with working(app, workers=3):
            await trio.sleep(190)
        assert sorted(one.context for one in await jobs.query()) == [
            f"cron minutely 2030-01-01T00:0{minute}:00+00:00" for minute in range(4)
        ]


async def test_a_restart_neither_repeats_nor_loses_a_tick(autojump_clock: MockClock) -> None:
    """The last tick is stored. Two starts within a minute add no job, and a later one fires the missed tick."""
    async with open_app(jobs=[Echo]) as (app, jobs):
        app.cron(EVERY_MINUTE, Echo("tick"))
        async with working(app):
            await trio.sleep(70)
        assert await jobs.count() == 2
        for _ in range(2):
            async with working(app):
                await trio.sleep(5)
        assert await jobs.count() == 2
        await trio.sleep(60)
        async with working(app):
            await trio.sleep(5)
        assert await jobs.count() == 3


@pytest.mark.parametrize(("missed", "jobs_made"), [("skip", 1), ("once", 2), ("all", 11)])
async def test_missed_ticks_are_skipped_made_up_for_once_or_all(
    autojump_clock: MockClock, missed: str, jobs_made: int
) -> None:
    """No worker runs for ten hours. The entry's `missed` decides how many ticks are fired."""
    start = datetime(2030, 1, 1, 0, 0, tzinfo=UTC)
    async with open_app(jobs=[Echo], start=start) as (app, jobs):
        app.cron("0 * * * *", Echo("tick"), missed=missed)  # type: ignore[arg-type]  # parametrized
        async with working(app):
            await trio.sleep(60)
        assert await jobs.count() == 1
        await trio.sleep(10.5 * 3600)
        async with working(app):
            await trio.sleep(60)
        assert await jobs.count() == jobs_made


async def test_a_paused_entry_does_not_tick_nor_make_up_for_it(autojump_clock: MockClock) -> None:
    """This holds even with ``missed="all"``: ticks during a pause are never due."""
    async with open_app(jobs=[Echo]) as (app, jobs):
        app.cron(EVERY_MINUTE, Echo("tick"), name="minutely", missed="all")
        async with working(app):
            await trio.sleep(10)
            await jobs.pause_cron("minutely")
            await trio.sleep(600)
            assert await jobs.count() == 1
            await jobs.resume_cron("minutely")
            await trio.sleep(61)
        assert await jobs.count() == 2
        with pytest.raises(jobrt.CronNotFound, match="nightly"):
            await jobs.pause_cron("nightly")


async def test_a_change_at_run_time_holds_over_restarts_until_code_changes(autojump_clock: MockClock) -> None:
    """A restart does not undo an operator's change. A changed declaration in code does."""
    async with open_app(jobs=[Echo]) as (app, jobs):
        app.cron(EVERY_MINUTE, Echo("tick"), name="entry")
        async with working(app):
            await trio.sleep(10)
            await jobs.update_cron("entry", interval=timedelta(hours=1))
        async with working(app):
            await trio.sleep(600)
        assert await jobs.count() == 1
        (row,) = await jobs.crons()
        assert (row.spec["interval"], row.spec["expression"]) == (3600.0, None)
        app.crons.clear()
        app.cron("*/5 * * * *", Echo("tick"), name="entry")
        async with working(app):
            (row,) = await jobs.crons()
            await trio.sleep(301)
        (row,) = await jobs.crons()
        assert (row.spec["interval"], row.spec["expression"]) == (None, "*/5 * * * *")
        assert await jobs.count() == 2
        with pytest.raises(jobrt.InvalidSetting, match="entry"):
            await jobs.update_cron("entry", expression="61 * * * *")


async def test_an_entry_that_code_no_longer_has_does_not_tick(autojump_clock: MockClock) -> None:
    """By default a changed schedule is another entry. The old entry must not also tick."""
    async with open_app(jobs=[Echo]) as (app, jobs):
        app.cron(EVERY_MINUTE, Echo("tick"))
        async with working(app):
            await trio.sleep(10)
        app.crons.clear()
        app.cron("0 12 * * *", Echo("tick"))
        async with working(app):
            await trio.sleep(600)
        assert await jobs.count() == 1


async def test_one_broken_entry_does_not_stop_the_others(autojump_clock: MockClock) -> None:
    """It is reported once, and the others continue to tick."""
    from jobrt._storage.contract import CronRow
    from jobrt.events import CronFailed

    reported: list[object] = []
    async with open_app(jobs=[Echo]) as (app, jobs):
        app.cron(EVERY_MINUTE, Echo("tick"), name="good")
        async with app.open_storage() as storage:
            await storage.crons.put(CronRow(name="a bad one", spec={"job": "Echo", "expression": "nonsense"}))
        with app.events.subscribed(lambda event: isinstance(event, CronFailed) and reported.append(event)):
            async with working(app):
                await trio.sleep(130)
        assert await jobs.count() == 3
    assert len(reported) == 1


async def test_a_thousand_failing_ticks_and_then_a_good_one(autojump_clock: MockClock) -> None:
    """After such a long outage, missed ticks are fired as the entry says, and it continues to tick."""
    trouble = Trouble(frozenset({"crons.fire"}), Fault.REFUSED, on=True)
    async with scene(trouble, [Echo], queues={"default": jobrt.Queue(1, poll_interval=600)}) as here:
        here.app.cron("* * * * * *", Echo("tick"), missed="once")
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(here.app.run_worker)
            await trio.sleep(1000)
            assert await here.client.count() == 0
            trouble.on = False
            await trio.sleep(60)
            before = await here.client.count()
            await trio.sleep(180)
            assert before <= 61, "not a thousand: what was missed is made up for once"
            assert await here.client.count() - before == 180
            await worker.stop()


async def test_a_slow_job_of_a_short_interval_does_not_pile_up_when_unique(autojump_clock: MockClock) -> None:
    """One job runs or waits. The ticks meanwhile are duplicates of it."""

    class Slow(jobrt.Job):
        UNIQUE = jobrt.Unique(by=("name",))

        async def run(self, ctx: jobrt.Context) -> None:
            await trio.sleep(95)

    async with open_app(jobs=[Slow]) as (app, jobs):
        app.every(10, Slow())
        async with working(app):
            await trio.sleep(180)
        assert await jobs.count() == 2


async def test_a_job_far_past_its_usual_time_is_told_with_its_stack(autojump_clock: MockClock) -> None:
    """It is reported as slow once, after ten runs that establish the usual time."""
    from jobrt.events import JobStuck

    class Sleep(jobrt.Job):
        seconds: float

        async def run(self, ctx: jobrt.Context) -> None:
            await trio.sleep(self.seconds)

    reported: list[JobStuck] = []
    app = jobrt.App("sqlite:///:memory:", jobs=[Sleep])
    set_clock(app)
    async with app.open_client() as jobs:
        await jobs.enqueue_many(Sleep(1.0) for _ in range(10))
        with app.events.subscribed(lambda event: isinstance(event, JobStuck) and reported.append(event)):
            async with working(app):
                await trio.sleep(30)
                late = await jobs.enqueue(Sleep(300.0))
                await late.wait()
    assert [(one.id, one.why) for one in reported] == [(late.id, "slow")]
    assert "run" in reported[0].stack
