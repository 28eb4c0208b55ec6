"""Tests of a program that uses jobrt: which jobs it enqueues, what a job does, what happens after an hour.

In pytest, use ``async def test_…``; the plugin provides an app and a client as fixtures. Here, `main` calls the tests
with a virtual clock, so nothing really waits.

Run it with ``python examples/testing_jobs.py``.
"""

from datetime import timedelta

import trio
from trio.testing import MockClock

import jobrt
from jobrt.testing import assert_enqueued, assert_none_failed, drain, open_app, perform, refute_enqueued

app = jobrt.App("sqlite:///shop.db")  # the app of the program; tests use a copy on an in-memory database


@app.job(max_attempts=2)
async def remind(ctx: jobrt.Context, to: str) -> str:
    """Return the text of a reminder."""
    return f"dear {to}"


async def sign_up(jobs: jobrt.Client, to: str) -> None:
    """Enqueue a reminder in an hour. This is the function under test."""
    await jobs.enqueue(remind.new(to), schedule_in=3600, tags=["sign-up"])


async def test_signing_up_reminds_after_an_hour() -> None:
    """Signing up enqueues a job, which is due and runs after an hour."""
    async with open_app(app) as (copy, jobs):
        await sign_up(jobs, "ada")
        (job,) = await assert_enqueued(jobs, job=remind, args={"to": "ada"}, tags=["sign-up"], count=1)
        soon, late = job.created_at + timedelta(minutes=50), job.created_at + timedelta(minutes=70)
        await assert_enqueued(jobs, job=remind, scheduled_after=soon, scheduled_before=late)
        await refute_enqueued(jobs, job=remind, args={"to": "bob"})
        assert await drain(copy) == {}  # noqa: S101 - no job is due yet
        await trio.sleep(3600)
        assert await drain(copy) == {"completed": 1}  # noqa: S101 - as tests do
        await assert_none_failed(jobs)


async def test_a_reminder_is_polite() -> None:
    """A reminder starts with "dear"."""
    assert await perform(remind.new("ada")) == "dear ada"  # noqa: S101 - as tests do


async def main() -> None:
    """Run the tests."""
    for test in (test_signing_up_reminds_after_an_hour, test_a_reminder_is_polite):
        await test()
        print(test.__name__, "passed")


if __name__ == "__main__":
    trio.run(main, clock=MockClock(autojump_threshold=0))
