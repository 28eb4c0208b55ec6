"""Unusual ends of an attempt."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta

import pytest
import trio
from tests.runtime.test_fencing import scene
from trio.testing import MockClock

import jobrt
from jobrt import End, State
from jobrt._runtime import executors
from jobrt.testing import drain, open_app, perform


def _broken(record: jobrt.JobRecord) -> float:
    raise LookupError(f"no limit for {record.name}")


class NoLimit(jobrt.Job):
    """Job whose TIMEOUT function raises."""

    TIMEOUT = _broken
    MAX_ATTEMPTS = 1

    async def run(self, ctx: jobrt.Context) -> None:
        """Never run."""


class Limited(jobrt.Job):
    """Job that runs longer than its TIMEOUT function allows."""

    TIMEOUT = lambda record: timedelta(seconds=record.args["seconds"])  # noqa: E731
    MAX_ATTEMPTS = 1

    seconds: float = 2.0

    async def run(self, ctx: jobrt.Context) -> None:
        await trio.sleep_forever()


class Interrupted(jobrt.Job):
    """Job during which Ctrl-C is pressed."""

    in_a_child: bool = False

    async def run(self, ctx: jobrt.Context) -> None:
        if not self.in_a_child:
            signal.raise_signal(signal.SIGINT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.child)
            await trio.sleep_forever()

    async def child(self) -> None:
        """Be what runs at that moment."""
        signal.raise_signal(signal.SIGINT)


async def test_a_time_limit_that_cannot_be_told_fails_the_attempt(autojump_clock: MockClock) -> None:
    """The attempt fails with the error of the function. The job's code is not run, and the worker continues."""
    async with open_app(jobs=[NoLimit]) as (app, jobs):
        handle = await jobs.enqueue(NoLimit())
        assert await drain(app) == {"discarded": 1}
        (attempt,) = (await jobs.get(handle.id)).attempts
    assert (attempt.end, attempt.error_type) == (End.FAILED, "LookupError")
    assert attempt.message == "no limit for NoLimit"


async def test_a_time_limit_may_be_decided_by_the_record(autojump_clock: MockClock) -> None:
    """A function of the record may return a timedelta. `perform` also applies it, and raises no group."""
    async with open_app(jobs=[Limited]) as (app, jobs):
        handle = await jobs.enqueue(Limited(3.0))
        began = trio.current_time()
        assert await drain(app) == {"discarded": 1}
        assert trio.current_time() - began == pytest.approx(3, abs=0.1)
        (attempt,) = (await jobs.get(handle.id)).attempts
        assert attempt.end is End.TIMED_OUT
        with pytest.raises(trio.TooSlowError, match="Limited did not end within its TIMEOUT"):
            await perform(Limited(3.0))


class AsyncInterrupted(jobrt.Job):
    """Be there under asyncio."""

    RUN_IN = "asyncio"

    async def run(self, ctx: jobrt.Context) -> None:
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGINT)


async def test_an_interrupt_under_asyncio_ends_the_worker_as_well() -> None:
    """The loop that keeps exceptions to their tasks lets this one through."""
    with trio.fail_after(30):
        async with scene(lambda _: None, [AsyncInterrupted]) as here:
            handle = await here.client.enqueue(AsyncInterrupted())
            with pytest.raises(BaseExceptionGroup) as caught:  # the loop raises it, and so does the attempt
                await here.app.run_worker()
            assert caught.value.split(KeyboardInterrupt)[1] is None
            record = await here.client.get(handle.id)
    assert (record.state, record.attempt) == (State.AVAILABLE, 0)


def test_a_task_that_trio_does_not_run_is_closed() -> None:
    """Python throws `GeneratorExit` into it then, and it must not wait for anything any more."""

    async def main() -> trio.lowlevel.Task:
        task = trio.lowlevel.current_task()
        assert not executors._is_closed(task)
        return task

    assert executors._is_closed(trio.run(main))


@pytest.mark.parametrize("in_a_child", [False, True])
async def test_an_interrupt_in_a_job_ends_the_worker_and_gives_the_job_back(
    in_a_child: bool, autojump_clock: MockClock
) -> None:
    """The interrupt is meant for the program: no attempt is used up, and no job stays leased."""
    async with scene(lambda _: None, [Interrupted]) as here:
        handle = await here.client.enqueue(Interrupted(in_a_child))
        with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
            await here.app.run_worker()
        record = await here.client.get(handle.id)
    assert (record.state, record.attempt) == (State.AVAILABLE, 0)
