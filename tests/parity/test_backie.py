"""What *backie* (``BackgroundTask``) offers, on both engines."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity
import trio

import jobrt
from jobrt import State, where
from tests.parity.conftest import Open
from tests.parity.jobs import Echo, Fail


async def test_no_backoff(opened: Open) -> None:
    """`BackoffMode::NoBackoff` is ``tenacity.wait_none()``: all attempts in one drain."""
    async with opened() as (app, jobs):
        handle = await jobs.enqueue(Fail(3))
        await app.drain()
        assert await handle.result() == 4


@pytest.mark.parametrize(("failures", "delay"), [(1, 2), (2, 4), (3, 8)])
async def test_exponential_backoff_is_the_default(opened: Open, failures: int, delay: float) -> None:
    """2, 4, 8 … seconds, give or take a tenth."""

    class Flaky(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> None:
            raise OSError("no")

    async with opened(jobs=[Flaky]) as (app, jobs):
        handle = await jobs.enqueue(Flaky())
        for _ in range(failures):
            await jobs.update(handle.id, schedule_in=0)
            await app.drain()
        record = await jobs.get(handle.id)
        ended = record.attempts[-1].finished_at
        assert ended is not None
        assert (record.schedule_at - ended).total_seconds() == pytest.approx(delay, rel=0.1, abs=1)


async def test_uniqueness_by_a_hash_of_ones_own(opened: Open) -> None:
    """`Unique(key=…)` of the job's value, at enqueue; a duplicate is told, and ends no transaction of the caller."""

    def uniq(number: int) -> jobrt.Unique:
        return jobrt.Unique(key={"hash": number % 10})

    async with opened() as (_, jobs):
        first = await jobs.enqueue(Echo(3), unique=uniq(3))
        second = await jobs.enqueue(Echo(13), unique=uniq(13))
        third = await jobs.enqueue(Echo(4), unique=uniq(4))
        assert (second.id, second.duplicate, third.duplicate) == (first.id, True, False)


async def test_finished_jobs_are_in_nobodys_way(opened: Open) -> None:
    """A job that is kept after its end does not stop an equal one from being enqueued."""
    unique = jobrt.Unique(key="once")
    async with opened() as (app, jobs):
        first = await jobs.enqueue(Echo(), unique=unique)
        await app.drain()
        assert (await jobs.get(first.id)).state is State.COMPLETED
        assert not (await jobs.enqueue(Echo(), unique=unique)).duplicate


async def test_a_task_knows_its_id_retries_and_creation_time(opened: Open) -> None:
    """`CurrentTask` is ``ctx.job``."""

    class Look(jobrt.Job):
        BACKOFF = tenacity.wait_none()

        async def run(self, ctx: jobrt.Context) -> Any:
            if ctx.job.attempt == 1:
                raise OSError("once more")
            (error,) = ctx.job.attempts
            return [ctx.job.id, ctx.job.attempt - 1, ctx.job.created_at.isoformat(), error.message]

    async with opened(jobs=[Look]) as (app, jobs):
        handle = await jobs.enqueue(Look())
        await app.drain()
        record = await jobs.get(handle.id)
        assert record.result == [handle.id, 1, record.created_at.isoformat(), "once more"]


async def test_retention_modes_per_queue(opened: Open) -> None:
    """Keep all, remove all, remove done: what a queue says holds for its jobs, the app's for the others."""
    nothing, everything = jobrt.Keep(age=0), jobrt.Keep()
    queues = {
        "keep_all": jobrt.Queue(keep={"completed": everything, "discarded": everything}),
        "remove_all": jobrt.Queue(keep={"completed": nothing, "discarded": nothing}),
        "remove_done": jobrt.Queue(keep={"completed": nothing, "discarded": everything}),
    }
    async with opened(queues=queues) as (app, jobs):
        for queue in queues:
            await jobs.enqueue(Echo(), queue=queue)
            await jobs.enqueue(Fail(), queue=queue, max_attempts=1)
        await app.drain()
        await jobs.prune()
        left = {(one.queue, one.state.value) for one in await jobs.query()}
    assert left == {("keep_all", "completed"), ("keep_all", "discarded"), ("remove_done", "discarded")}


async def test_the_pull_interval_is_a_queues_own(opened: Open) -> None:
    """Without wake-ups, due jobs are found by looking, as often as the queue says."""
    queues = {"default": jobrt.Queue(1, poll_interval=0.05)}
    async with opened(queues=queues, listen=False) as (app, jobs), trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        assert await (await jobs.enqueue(Echo(1))).result() == 1
        await worker.stop()


async def test_a_future_of_the_users_stops_the_worker_and_running_jobs_finish(opened: Open) -> None:
    """Any async function: await it, then ``worker.stop()``; all is over when the nursery is."""
    stop, begun = trio.Event(), trio.Event()

    class Long(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> str:
            begun.set()
            await ctx.shutting_down.wait()
            return "finished"

    async def until(worker: jobrt.Worker) -> None:
        await stop.wait()
        await worker.stop()

    async with opened(jobs=[Long], queues={"default": 1}) as (app, jobs):
        first, second = await jobs.enqueue_many([Long(), Long()])
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(app.run_worker)
            nursery.start_soon(until, worker)
            await begun.wait()
            stop.set()
        assert (await jobs.get(first.id)).result == "finished"
        assert (await jobs.get(second.id)).state is State.AVAILABLE


async def test_a_queue_that_is_not_configured_is_an_error_at_the_start(opened: Open) -> None:
    """The error names the queue and its jobs; no worker starts."""

    class Lost(jobrt.Job):
        QUEUE = "nowhere"

        async def run(self, ctx: jobrt.Context) -> None: ...

    async with opened(jobs=[Lost], queues={"mail": 1}) as (app, _):
        with pytest.raises(jobrt.InvalidSetting, match=r"nowhere.*Lost"):
            await app.run_worker()


async def test_a_success_after_a_failure_is_a_success(opened: Open) -> None:
    """The errors stay in the record, the state is ``completed``."""
    async with opened() as (app, jobs):
        handle = await jobs.enqueue(Fail(1))
        await app.drain()
        record = await jobs.get(handle.id)
        assert (record.state, record.attempts[0].message) == (State.COMPLETED, "attempt 1")
        assert await jobs.count(where.state("discarded")) == 0
