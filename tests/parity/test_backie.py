"""Features of *backie* (``BackgroundTask``), on both engines."""

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
    """`BackoffMode::NoBackoff` is ``tenacity.wait_none()``: one drain makes all attempts."""
    async with opened() as (app, jobs):
        handle = await jobs.enqueue(Fail(3))
        await app.drain()
        assert await handle.result() == 4


@pytest.mark.parametrize(("failures", "delay"), [(1, 2), (2, 4), (3, 8)])
async def test_exponential_backoff_is_the_default(opened: Open, failures: int, delay: float) -> None:
    """The delay is 2, 4, 8 … seconds, ±10 %."""

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


async def test_uniqueness_by_a_custom_hash(opened: Open) -> None:
    """`Unique(key=…)` at enqueue makes jobs with the same key duplicates."""

    def uniq(number: int) -> jobrt.Unique:
        return jobrt.Unique(key={"hash": number % 10})

    async with opened() as (_, jobs):
        first = await jobs.enqueue(Echo(3), unique=uniq(3))
        second = await jobs.enqueue(Echo(13), unique=uniq(13))
        third = await jobs.enqueue(Echo(4), unique=uniq(4))
        assert (second.id, second.duplicate, third.duplicate) == (first.id, True, False)


async def test_finished_jobs_do_not_conflict(opened: Open) -> None:
    """A finished job does not prevent an equal job from being enqueued."""
    unique = jobrt.Unique(key="once")
    async with opened() as (app, jobs):
        first = await jobs.enqueue(Echo(), unique=unique)
        await app.drain()
        assert (await jobs.get(first.id)).state is State.COMPLETED
        assert not (await jobs.enqueue(Echo(), unique=unique)).duplicate


async def test_a_task_knows_its_id_retries_and_creation_time(opened: Open) -> None:
    """`CurrentTask` is ``ctx.job``, with id, retries and creation time."""

    class Inspect(jobrt.Job):
        BACKOFF = tenacity.wait_none()

        async def run(self, ctx: jobrt.Context) -> Any:
            if ctx.job.attempt == 1:
                raise OSError("once more")
            (error,) = ctx.job.attempts
            return [ctx.job.id, ctx.job.attempt - 1, ctx.job.created_at.isoformat(), error.message]

    async with opened(jobs=[Inspect]) as (app, jobs):
        handle = await jobs.enqueue(Inspect())
        await app.drain()
        record = await jobs.get(handle.id)
        assert record.result == [handle.id, 1, record.created_at.isoformat(), "once more"]


async def test_retention_modes_per_queue(opened: Open) -> None:
    """A queue can keep all jobs, remove all jobs, or remove completed jobs."""
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
        left = {(job.queue, job.state.value) for job in await jobs.query()}
    assert left == {("keep_all", "completed"), ("keep_all", "discarded"), ("remove_done", "discarded")}


async def test_the_pull_interval_is_set_per_queue(opened: Open) -> None:
    """Without notifications, a worker polls at the interval of the queue."""
    queues = {"default": jobrt.Queue(1, poll_interval=0.05)}
    async with opened(queues=queues, listen=False) as (app, jobs), trio.open_nursery() as nursery:
        worker = await nursery.start(app.run_worker)
        assert await (await jobs.enqueue(Echo(1))).result() == 1
        await worker.stop()


async def test_a_custom_future_stops_the_worker_and_running_jobs_finish(opened: Open) -> None:
    """Any async function can call ``worker.stop()``; the worker has stopped when the nursery has ended."""
    stop, started = trio.Event(), trio.Event()

    class Long(jobrt.Job):
        async def run(self, ctx: jobrt.Context) -> str:
            started.set()
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
            await started.wait()
            stop.set()
        assert (await jobs.get(first.id)).result == "finished"
        assert (await jobs.get(second.id)).state is State.AVAILABLE


async def test_a_queue_that_is_not_configured_is_an_error_at_the_start(opened: Open) -> None:
    """The error names the queue and its jobs, and no worker starts."""

    class Lost(jobrt.Job):
        QUEUE = "nowhere"

        async def run(self, ctx: jobrt.Context) -> None: ...

    async with opened(jobs=[Lost], queues={"mail": 1}) as (app, _):
        with pytest.raises(jobrt.InvalidSetting, match=r"nowhere.*Lost"):
            await app.run_worker()


async def test_a_success_after_a_failure_is_a_success(opened: Open) -> None:
    """The state is ``completed``, and the record keeps the errors."""
    async with opened() as (app, jobs):
        handle = await jobs.enqueue(Fail(1))
        await app.drain()
        record = await jobs.get(handle.id)
        assert (record.state, record.attempts[0].message) == (State.COMPLETED, "attempt 1")
        assert await jobs.count(where.state("discarded")) == 0
