"""Test a program that uses jobrt: what was enqueued, what one job does, what happens in an hour.

With pytest these are ``async def test_…``; the plugin has an app and a client as fixtures. Here they are called by
hand, under a virtual clock: nothing waits.

Run it with ``python examples/testing_jobs.py``.
"""

from datetime import timedelta

import trio
from trio.testing import MockClock

import jobrt
from jobrt.testing import assert_enqueued, assert_none_failed, drain, open_app, perform, refute_enqueued

app = jobrt.App("sqlite:///shop.db")  # the program's own; tests use a copy in memory


@app.job(max_attempts=2)
async def remind(ctx: jobrt.Context, to: str) -> str:
    """Remind somebody."""
    return f"dear {to}"


async def sign_up(jobs: jobrt.Client, to: str) -> None:
    """Be what is tested."""
    await jobs.enqueue(remind.new(to), schedule_in=3600, tags=["sign-up"])


async def test_signing_up_reminds_after_an_hour() -> None:
    """One job, due in an hour, and then it runs."""
    async with open_app(app) as (copy, jobs):
        await sign_up(jobs, "ada")
        (job,) = await assert_enqueued(jobs, job=remind, args={"to": "ada"}, tags=["sign-up"], count=1)
        soon, late = job.created_at + timedelta(minutes=50), job.created_at + timedelta(minutes=70)
        await assert_enqueued(jobs, job=remind, scheduled_after=soon, scheduled_before=late)
        await refute_enqueued(jobs, job=remind, args={"to": "bob"})
        assert await drain(copy) == {}  # noqa: S101 - nothing is due
        await trio.sleep(3600)
        assert await drain(copy) == {"completed": 1}  # noqa: S101 - as tests do
        await assert_none_failed(jobs)


async def test_a_reminder_is_polite() -> None:
    """One job value, run here and now."""
    assert await perform(remind.new("ada")) == "dear ada"  # noqa: S101 - as tests do


async def main() -> None:
    """Run the tests."""
    for test in (test_signing_up_reminds_after_an_hour, test_a_reminder_is_polite):
        await test()
        print(test.__name__, "passed")


if __name__ == "__main__":
    trio.run(main, clock=MockClock(autojump_threshold=0))
