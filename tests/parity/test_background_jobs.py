"""Features of *background-jobs* (``ActixJob``), on both engines."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import tenacity
import trio

import jobrt
from jobrt import End, State, where
from tests.parity.conftest import Open
from tests.parity.jobs import JOBS, Echo, Fail, completions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.mark.parametrize(("attempts", "made"), [(1, 1), (4, 4)])
async def test_max_attempts_counts_every_run(opened: Open, attempts: int, made: int) -> None:
    """`MaxRetries::Count(n)` is ``max_attempts=n + 1``, because the first run counts."""
    async with opened() as (app, jobs):
        handle = await jobs.enqueue(Fail(), max_attempts=attempts)
        await app.drain()
        record = await jobs.get(handle.id)
        assert (record.state, len(record.attempts)) == (State.DISCARDED, made)


async def test_retries_without_end(opened: Open) -> None:
    """`MaxRetries::Infinite` is ``max_attempts=None``."""
    async with opened() as (app, jobs):
        handle = await jobs.enqueue(Fail(12), max_attempts=None)
        await app.drain()
        assert await handle.result() == 13


@pytest.mark.parametrize(
    ("backoff", "delay"),
    [
        (tenacity.wait_fixed(40), 40),  # Backoff::Linear(40)
        (tenacity.wait_exponential(multiplier=50, exp_base=3), 50),  # Backoff::Exponential
        (lambda job: timedelta(seconds=job.args["seconds"]), 70),  # backoff_strategy(&self)
    ],
)
async def test_backoff_is_linear_exponential_or_decided_by_the_job(
    opened: Open, backoff: Any, delay: float
) -> None:
    """The next attempt is due after the delay, by the database's clock."""

    class Flaky(jobrt.Job):
        BACKOFF = backoff

        seconds: int = 70

        async def run(self, ctx: jobrt.Context) -> None:
            raise OSError("no")

    async with opened(jobs=[Flaky]) as (app, jobs):
        handle = await jobs.enqueue(Flaky())
        await app.drain()
        record = await jobs.get(handle.id)
        ended = record.attempts[0].finished_at
        assert record.state is State.RETRYABLE
        assert ended is not None
        assert (record.schedule_at - ended).total_seconds() == pytest.approx(delay, abs=2)


async def test_a_timeout_ends_the_run_and_is_decided_by_class_job_or_enqueue(opened: Open) -> None:
    """A run is stopped at its timeout; a function of the record can decide the timeout."""
    stopped: list[float] = []

    class Slow(jobrt.Job):
        MAX_ATTEMPTS = 1

        seconds: float = 0.02

        async def run(self, ctx: jobrt.Context) -> None:
            try:
                await trio.sleep_forever()
            finally:
                stopped.append(self.seconds)

        @staticmethod
        def TIMEOUT(job: jobrt.JobRecord) -> float:  # noqa: N802 - the name of the constant
            seconds: float = job.args["seconds"]
            return seconds

    async with opened(jobs=[Slow]) as (app, jobs):
        handles = [await jobs.enqueue(Slow(0.01)), await jobs.enqueue(Slow(99.0), timeout=0.02)]
        await app.drain()
        for handle in handles:
            (attempt,) = (await jobs.get(handle.id)).attempts
            assert attempt.end is End.TIMED_OUT
    assert sorted(stopped) == [0.01, 99.0]


async def test_state_is_made_for_each_worker(opened: Open) -> None:
    """A function creates the state when a worker starts; an async context manager also closes it."""
    events: list[str] = []

    @asynccontextmanager
    async def state() -> AsyncIterator[str]:
        events.append("made")
        yield "the state"
        events.append("closed")

    class Inspect(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> Any:
            return ctx.state

    async with opened(jobs=[Inspect], state=state) as (app, jobs):
        handles = await jobs.enqueue_many([Inspect(), Inspect()])
        await app.drain()
        await app.drain()
        assert [await handle.result() for handle in handles] == ["the state"] * 2
    assert events == ["made", "closed"] * 2


async def test_several_jobs_of_a_queue_run_at_once(opened: Open) -> None:
    """A queue with a concurrency of 3 runs three jobs that wait for each other."""

    class Meet(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            ctx.state.append(event := trio.Event())
            if len(ctx.state) == 3:
                for waiting in ctx.state:
                    waiting.set()
            await event.wait()

    async with opened(jobs=[Meet], queues={"default": 3}, state=[]) as (app, jobs):
        await jobs.enqueue_many([Meet(), Meet(), Meet()])
        await app.drain()
        assert await jobs.count(where.state("completed")) == 3


async def test_jobs_enqueue_jobs_and_at_a_time(opened: Open) -> None:
    """`ctx.enqueue` has the options of the client; ``schedule_at`` is stored with microseconds."""
    moment = datetime.now(UTC) + timedelta(days=400)

    class Parent(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> list[int]:
            now, later = await ctx.enqueue(Echo("child")), await ctx.enqueue(Echo(), schedule_at=moment)
            return [now.id, later.id]

    async with opened(jobs=[Parent, Echo]) as (app, jobs):
        handle = await jobs.enqueue(Parent())
        await app.drain()
        now, later = await handle.result()
        assert await jobs.handle(now).result() == "child"
        record = await jobs.get(later)
        assert (record.state, record.schedule_at) == (State.SCHEDULED, moment)


async def test_every_interval_once_per_cluster_and_persisted(opened: Open) -> None:
    """Two workers enqueue one job for the first tick; workers that start later enqueue none."""
    async with opened() as (app, jobs):
        app.every(timedelta(hours=1), Echo("tick"), name="hourly")
        with completions(app, 1) as first:
            for _ in range(2):
                async with trio.open_nursery() as nursery:
                    workers = [await nursery.start(app.run_worker) for _ in range(2)]
                    await first.wait()
                    for worker in workers:
                        await worker.stop()
        (job,) = await jobs.query()
        assert (job.args, (job.context or "").split()[:2]) == ({"value": "tick"}, ["cron", "hourly"])
        (row,) = await jobs.crons()
        assert row.last_tick is not None


async def test_jobs_survive_the_program_but_not_in_memory(database_url: str) -> None:
    """Another app finds the jobs; ``sqlite:///:memory:`` is removed with its last user."""
    for url, left in ((database_url, 1), ("sqlite:///:memory:", 0)):
        async with jobrt.App(url, jobs=JOBS, migrate=True).open_client() as jobs:
            await jobs.enqueue(Echo())
        async with jobrt.App(url, jobs=JOBS, migrate=True).open_client() as jobs:
            assert await jobs.count() == left


async def test_counters_and_durations(opened: Open) -> None:
    """Jobs are counted by end for the day, the month and all time, with their durations."""
    async with opened() as (app, jobs):
        await jobs.enqueue_many([Echo(), Echo(), Echo()])
        await jobs.enqueue(Fail(1))
        await jobs.enqueue(Fail(), max_attempts=2)
        await app.drain()
        echo, fail = await jobs.totals()
        for counts in (echo.day, echo.month, echo.all_time):
            assert (counts.enqueued, counts.completed, counts.failed, counts.dead) == (3, 3, 0, 0)
            assert sum(counts.histogram) == 3
        assert echo.all_time.mean is not None
        assert (echo.all_time.quantile(1) or 0) >= echo.all_time.mean
        counts = fail.all_time
        assert (counts.enqueued, counts.completed, counts.failed, counts.dead) == (2, 1, 3, 1)
        await jobs.delete(where.name("Echo"))
        assert [total.all_time for total in await jobs.totals()] == [echo.all_time, fail.all_time]


async def test_registration_order_resets_no_limit(database_url: str) -> None:
    """Jobs that are added later do not change the concurrency of a queue."""
    app = jobrt.App(database_url, queues={"adding": 16})

    @app.job(queue="adding")
    async def late(ctx: jobrt.Context) -> None: ...

    assert app.queues["adding"].concurrency == 16
