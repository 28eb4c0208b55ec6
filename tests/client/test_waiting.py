"""Waiting for the results of jobs."""

from __future__ import annotations

import trio
from trio.testing import MockClock

import jobrt
from jobrt.testing import drain, open_app
from tests.parity.jobs import Echo


async def test_results_of_ended_jobs_can_be_had_one_after_the_other(autojump_clock: MockClock) -> None:
    """A wait that begins while the last query ends is not forgotten."""
    async with open_app(jobs=[Echo]) as (app, jobs):
        handles = await jobs.enqueue_many(Echo(number) for number in range(20))
        await drain(app)
        with trio.fail_after(60):
            assert [await one.result() for one in handles] == list(range(20))


async def test_a_job_that_is_deleted_while_somebody_waits(autojump_clock: MockClock) -> None:
    """The wait ends with another error than for a job that ended."""
    async with open_app(jobs=[Echo]) as (_, jobs), trio.open_nursery() as nursery:
        handle = await jobs.enqueue(Echo())
        not_found: list[bool] = []

        async def wait() -> None:
            try:
                await handle.wait()
            except jobrt.JobNotFound:
                not_found.append(True)

        nursery.start_soon(wait)
        await trio.sleep(1)
        await jobs.delete(handle.id)
        await trio.sleep(5)
        assert not_found == [True]
