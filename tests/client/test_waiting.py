"""Waiting for the results of jobs."""

from __future__ import annotations

import re

import pytest
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


async def test_a_wait_needs_an_open_client(database_url: str) -> None:
    """After the client is closed, each call says so. A wait that lasts until then ends with the same error."""
    app = jobrt.App(database_url, jobs=[Echo], migrate=True)
    raised: list[str] = []

    async def wait(handle: jobrt.Handle[object]) -> None:
        try:
            await handle.wait()
        except jobrt.StorageError as error:
            raised.append(str(error))

    with trio.fail_after(50):
        async with trio.open_nursery() as nursery, app.open_client() as jobs:
            handle = await jobs.enqueue(Echo())
            nursery.start_soon(wait, handle)
            while not jobs._waiting.waiters:
                await trio.lowlevel.checkpoint()
        await wait(handle)
        for call in (jobs.get, jobs.cancel, jobs.delete):
            with pytest.raises(jobrt.StorageError, match="the client is closed"):
                await call(handle.id)
    assert len(raised) == 2
    assert all("the client is closed" in text for text in raised)


async def test_a_queue_that_the_app_does_not_have_is_warned_about(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for each queue. It is no error: another app may serve the queue."""
    app = jobrt.App(sqlite_url, jobs=[Echo], queues={"mail": 2})
    async with app.open_client() as jobs:
        for queue in ("mail", "default", "reports", "reports", "elsewhere"):
            await jobs.enqueue(Echo(), queue=queue)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert (
        "queue 'reports', which this app does not serve: its queues are default, mail. Unless" in messages[0]
    )
    assert "'elsewhere'" in messages[1]
    assert "default, mail" in messages[1]


async def test_a_queue_that_is_nearly_one_of_the_apps_is_refused(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The error has the nearest name, and nothing is enqueued. Workers of another app that serve it make it right."""
    app = jobrt.App(sqlite_url, jobs=[Echo], queues={"mail": 2})
    other = jobrt.App(sqlite_url, jobs=[Echo], queues={"mial": 2})
    message = "this app has no queue 'mial', and no worker serves it: did you mean 'mail'?"
    async with app.open_client() as jobs, trio.open_nursery() as nursery:
        for _ in range(2):
            with pytest.raises(jobrt.InvalidJob, match=re.escape(message)):
                await jobs.enqueue_many([Echo(), Echo().with_options(queue="mial")])
        assert await jobs.count() == 0
        await nursery.start(other.run_worker)
        with trio.fail_after(50):
            await (await jobs.enqueue(Echo(), queue="mial")).wait()
        nursery.cancel_scope.cancel()
    assert "does not serve" not in caplog.text


async def test_an_app_without_queues_warns_of_none(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """It serves whatever queues its jobs have; a program that only enqueues does not know them."""
    async with jobrt.App(sqlite_url, jobs=[Echo]).open_client() as jobs:
        await jobs.enqueue(Echo(), queue="mial")
    assert not caplog.records
