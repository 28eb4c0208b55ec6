"""Virtual time: days with an idle worker cost little, and nothing comes late because of that."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock

import jobrt
from jobrt import State
from jobrt._runtime.pace import Pace, is_virtual
from jobrt.testing import open_app

pytestmark = pytest.mark.unmeasured

DAY = 86_400


class Nightly(jobrt.Job):
    """A job without fields."""

    async def run(self, ctx: jobrt.Context) -> None: ...


class Long(jobrt.Job):
    """A job that ends when it is cancelled."""

    async def run(self, ctx: jobrt.Context) -> None:
        await trio.sleep_forever()


@pytest.mark.parametrize("queues", [1, 5])
def test_an_idle_worker_wakes_seldom_in_virtual_time(queues: int) -> None:
    """A virtual day has some hundred wakes of the worker's tasks, whatever the machine; in real time it has 200,000."""
    steps = 0

    class Counter(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal steps
            steps += 1

    async def main() -> None:
        async with (
            open_app(jobs=[Nightly], queues={f"q{n}": 1 for n in range(queues - 1)}) as (app, _),
            trio.open_nursery() as nursery,
        ):
            worker = await nursery.start(app.run_worker)
            trio.lowlevel.add_instrument(instrument)
            await trio.sleep(DAY)
            trio.lowlevel.remove_instrument(instrument)
            await worker.stop()

    instrument = Counter()
    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert steps < 5000 + 1000 * queues


async def test_nightly_jobs_of_a_week(autojump_clock: MockClock) -> None:
    """Each tick makes one job at its time, and all of them are there to be looked at."""
    async with open_app(jobs=[Nightly]) as (app, jobs), trio.open_nursery() as nursery:
        app.cron("0 3 * * *", Nightly(), timezone="Europe/Berlin", name="nightly")
        await nursery.start(app.run_worker)
        await trio.sleep(7 * DAY)
        records = await jobs.query(limit=None)
        assert len(records) == 7
        assert {record.state for record in records} == {State.COMPLETED}
        late = [record.started_at.minute for record in records if record.started_at is not None]
        assert late == [0] * 7
        assert await jobs.prune() >= 5
        nursery.cancel_scope.cancel()


async def test_retention_is_the_workers_if_the_test_asks_for_it(autojump_clock: MockClock) -> None:
    """With `keep` among the settings, workers delete as they do elsewhere."""
    keep = {"completed": jobrt.Keep(age=3600)}
    async with open_app(jobs=[Nightly], keep=keep) as (app, jobs), trio.open_nursery() as nursery:
        await nursery.start(app.run_worker)
        handle = await jobs.enqueue(Nightly())
        await handle.wait()
        await trio.sleep(3000)
        assert await jobs.count() == 1
        await trio.sleep(3000)
        assert await jobs.count() == 0
        nursery.cancel_scope.cancel()


async def test_what_happens_after_days_is_noticed_at_once(autojump_clock: MockClock) -> None:
    """A new job, a due job, a cron entry, a pause and a cancel request wait for no look of the worker."""
    async with open_app(jobs=[Nightly, Long]) as (app, jobs), trio.open_nursery() as nursery:
        await nursery.start(app.run_worker)
        await trio.sleep(DAY)
        started = trio.current_time()
        await (await jobs.enqueue(Nightly())).wait()
        assert trio.current_time() - started < 0.1
        await (await jobs.enqueue(Nightly(), schedule_in=77)).wait()
        assert trio.current_time() - started == pytest.approx(77, abs=0.1)

        await trio.sleep(DAY)
        started = trio.current_time()
        handle = await jobs.enqueue(Long())
        await trio.sleep(1)
        await jobs.cancel(handle.id)
        await handle.wait()
        assert trio.current_time() - started < 2

        await trio.sleep(DAY)
        await jobs.pause("default")
        waiting = await jobs.enqueue(Nightly())
        await trio.sleep(DAY)
        assert (await jobs.get(waiting.id)).state is State.AVAILABLE
        started = trio.current_time()
        await jobs.resume("default")
        await waiting.wait()
        assert trio.current_time() - started < 0.1
        nursery.cancel_scope.cancel()


async def test_a_change_of_a_cron_entry_is_noticed_at_once(autojump_clock: MockClock) -> None:
    """After days in which it was paused, an entry ticks when it should."""
    async with open_app(jobs=[Nightly]) as (app, jobs), trio.open_nursery() as nursery:
        app.every(timedelta(seconds=20), Nightly(), name="often")
        await nursery.start(app.run_worker)
        await trio.sleep(65)
        await jobs.pause_cron("often")
        before = await jobs.count()
        await trio.sleep(DAY)
        assert await jobs.count() == before
        await jobs.resume_cron("often")
        await trio.sleep(45)
        assert await jobs.count() - before in {2, 3}
        nursery.cancel_scope.cancel()


async def test_the_watchdog_watches_as_soon_as_a_job_runs(autojump_clock: MockClock) -> None:
    """Its long sleep ends with the first claim: a stuck job is reported as soon as elsewhere."""

    class Stuck(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(60)

    seen: list[float] = []
    async with open_app(jobs=[Stuck]) as (app, jobs), trio.open_nursery() as nursery:
        await nursery.start(app.run_worker)
        await trio.sleep(DAY)
        handle = await jobs.enqueue(Stuck())
        await trio.sleep(1)
        started = trio.current_time()
        with app.events.subscribed(
            lambda event: (
                seen.append(trio.current_time()) if isinstance(event, jobrt.events.JobStuck) else None
            )
        ):
            await jobs.cancel(handle.id)
            await trio.sleep(10)
        assert 5 <= seen[0] - started <= 7
        nursery.cancel_scope.cancel()


async def test_only_a_test_has_virtual_time(autojump_clock: MockClock) -> None:
    """A file or a server is used by other processes, whose changes are found by looking."""
    assert is_virtual(private=True)
    assert not is_virtual(private=False)
    clustered = jobrt.Queue(cluster_limit=1)
    assert Pace(virtual=True).queue(clustered) is clustered


def test_real_time_is_not_virtual() -> None:
    """Nor is there any time outside of Trio."""

    async def main() -> bool:
        return is_virtual(private=True)

    assert not trio.run(main)
    assert not is_virtual(private=True)
